"""Run a worker pool at its own loopback address for one TaskManager.

    python deploy/local/pool.py --address 127.0.0.2:50000

TaskManagers use the same worker numbers and must not share a pool: one would stop the other's workers, and the job
would hang. Beam's own `worker_pool_main` listens on all addresses, so only one can run on a machine; on Kubernetes each
TaskManager has its pool in a sidecar container.
"""

import argparse
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

BOOT = Path(__file__).with_name("boot.py")


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--address", required=True, metavar="HOST:PORT")
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    pool = BeamFnExternalWorkerPoolServicer(use_process=True, container_executable=str(BOOT))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(flags.address)
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(None)


if __name__ == "__main__":
    main()
