"""What `demo.py` is made of: its programs, its price list, its traffic and its screen."""
