"""The way to the engines: a small pooled HTTP/1.1 client over the httptools parser (decision 0004 says why it is ours)."""
