"""What the server tests share."""
