"""What a picture says of itself: a signed manifest, container tags, an invisible mark, and visible words where asked for."""
