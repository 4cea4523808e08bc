"""The gallery: a small web page to look at tiles, their neighbours, maps and slides."""
