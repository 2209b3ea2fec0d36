"""A trained network as a local web page: upload a video, see what is in it and why."""
