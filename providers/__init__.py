"""What the clouds are: an offline catalogue of their regions. Imports nothing of ``router`` or ``probes``."""
