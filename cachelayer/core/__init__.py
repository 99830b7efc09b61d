"""The cache without its hands: what is asked, what may be kept, in which order. No I/O, no clock."""
