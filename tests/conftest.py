"""What holds for every test."""

from hypothesis import settings

# No test asserts a time: how long an example takes says how busy the machine is.
settings.register_profile("here", deadline=None)
settings.load_profile("here")
