"""Announces a service that is described by its argument, a JSON object, until it is killed."""

import json
import sys

from zeroconf import IPVersion, ServiceInfo, Zeroconf

told = json.loads(sys.argv[1])
zeroconf = Zeroconf(ip_version=IPVersion.V4Only)
zeroconf.register_service(
    ServiceInfo(
        told["kind"],
        f"{told['name']}.{told['kind']}",
        port=told["port"],
        properties=told["txt"],
        server=told["host"],
        parsed_addresses=told["addresses"],
    )
)
print(json.dumps({"event": "announced"}), flush=True)
sys.stdin.read()
