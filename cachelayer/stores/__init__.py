"""Places where entries and blobs live."""
