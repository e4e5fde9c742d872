"""What the command line offers: each module is one command of `mobilenets`."""
