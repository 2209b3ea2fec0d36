"""Commands that show, serve and publish a trained network."""
