#!/usr/bin/env python
"""Start a Beam worker on this machine in the checkout's environment, as `boot` of Beam's images does.

The worker pool runs this with the arguments of Beam's container contract (https://s.apache.org/beam-fn-api-container-contract).
Unlike Beam's own program it installs nothing.
"""

import argparse
import os
import sys

import grpc
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_grpc
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format  # type: ignore[import-untyped]


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--id", required=True)
    for name in ("logging", "artifact", "provision", "control"):
        parser.add_argument(f"--{name}_endpoint", default="")
    flags = parser.parse_args()
    info = read_provision_info(flags.provision_endpoint, flags.id)
    control, logging = info.control_endpoint, info.logging_endpoint
    control.url = control.url or flags.control_endpoint
    logging.url = logging.url or flags.logging_endpoint
    os.environ |= {
        "WORKER_ID": flags.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(logging),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "SEMI_PERSISTENT_DIRECTORY": os.environ.get("TMPDIR", "/tmp"),
    }
    sdk_worker_main.main(sys.argv[:1])


def read_provision_info(endpoint: str, worker_id: str) -> provision.ProvisionInfo:
    """Return the provision info of the runner: the pipeline's options and the worker's endpoints."""
    with grpc.insecure_channel(endpoint) as channel:
        request = provision.GetProvisionInfoRequest()
        return (
            provision_grpc.ProvisionServiceStub(channel)
            .GetProvisionInfo(request, metadata=[("worker_id", worker_id)])
            .info
        )


if __name__ == "__main__":
    main()
