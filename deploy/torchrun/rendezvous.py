"""The place where the launchers of a job meet, on a host that is no compute node.

    python rendezvous.py 29400

Without it the launchers keep it on the first node of the job, and when that node is the sick one
the whole job ends with it. One serves any number of jobs; run it as a service beside the scheduler
or the watchdog. The launchers are told to use it and to host none themselves:

    torchrun --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 --rdzv-conf=is_host=0 --rdzv-id=NAME ...

It has no authentication: whoever reaches the port can end the jobs. Bind it to the cluster's inner
network (`--host`), and keep others out by the firewall.
"""

from __future__ import annotations

import argparse
import signal

from torch.distributed import TCPStore


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="0.0.0.0", help="the address that the launchers use")  # noqa: S104
    given = parser.parse_args()
    store = TCPStore(given.host, given.port, is_master=True, wait_for_workers=False)
    print(f"serving on {given.host}:{store.port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
