"""A certificate of 127.0.0.1 for tests, signed by itself, made by the openssl command."""

import shutil
import subprocess
from pathlib import Path

OPENSSL = shutil.which("openssl")


def certificate(directory: Path) -> tuple[Path, Path]:
    """The files of a new certificate and of its key."""
    assert OPENSSL
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return cert, key
