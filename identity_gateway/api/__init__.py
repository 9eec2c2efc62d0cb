"""HTTP in, HTTP out. Nothing is decided here: the stories decide, this package speaks for them."""
