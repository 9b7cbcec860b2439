"""Hosts as a fleet has them: names, identities, and reports with the keys that HostManager sends."""

from managers.reports import Report, Value
from scheduler.hosts import Identity

#: Seconds; long, so that nobody becomes stale while we measure.
INTERVAL = 3600.0


def name_of(number: int) -> str:
    """Return the name of a host."""
    return f"rack{number // 40:03d}-{number % 40:02d}"


def identity_of(number: int) -> Identity:
    """Return who holds that host's name."""
    return Identity(
        instance=f"{number:032x}",
        machine=f"{name_of(number)}:4e1f0c6a:4026531836",
        pid=1000 + number,
        pid_started=1_795_359_600.25,
        version="0.1.0",
        heartbeat_interval=INTERVAL,
        interval=INTERVAL,
    )


def report_of(number: int, *, boot: int, sequence: int) -> Report:
    """Return that host's report, other in its measurements each time: 26 keys, some 560 bytes as JSON."""
    capabilities: dict[str, Value] = {
        "cpus": 32,
        "memory_mb": 257_542,
        "disk_mb": 1_906_394,
        "slots": 32,
        "gpus": 2,
        "gpu.model": "NVIDIA A100-SXM4-80GB",
        "gpu.memory_mb": 81_920,
        "gpu.driver": "570.86.15",
        "memory_available_mb": 201_733 - 17 * sequence - number,
        "disk_available_mb": 1_203_311 - sequence,
        "load_1m": round(1.0 + number % 32 + sequence / 7, 2),
        "cpu_percent": round((number * 7 + sequence) % 100 + 0.3, 1),
        "os": "linux",
        "os.release": "6.18.44-generic",
        "arch": "x86_64",
        "python": "3.11.7",
        "celery": "5.7.0",
        "celeriac": "0.1.0",
        "hostname": name_of(number),
        "zone": "abc"[number % 3],
        "rack": number // 40,
        "disk": "ssd",
        "network.gbit": 25,
        "maintenance": False,
        "model.loaded": ["sdxl", "whisper-large-v3"],
        "cuda": "12.8",
    }
    return Report(
        host=name_of(number),
        boot=boot,
        sequence=sequence,
        interval=INTERVAL,
        version="0.1.0",
        services={"host": capabilities},
    )
