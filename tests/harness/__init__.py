"""What the black-box tests stand on: a raw HTTP client and servers started as their users start them."""
