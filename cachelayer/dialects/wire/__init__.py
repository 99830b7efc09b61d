"""What wire formats share: envelopes, binary parts, images, the words of refusals. No format's field names."""
