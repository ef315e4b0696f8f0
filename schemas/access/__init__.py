"""What an access token may allow."""
