"""Prints what is announced on the LAN, one JSON object a line, until it is killed."""

import json
import sys

from zeroconf import IPVersion, ServiceBrowser, ServiceListener, Zeroconf


class Printer(ServiceListener):
    def tell(self, event, zeroconf, kind, name):
        seen = {"event": event, "name": name.removesuffix("." + kind)}
        info = zeroconf.get_service_info(kind, name, timeout=3000) if event != "removed" else None
        if info:
            seen["host"], seen["port"] = info.server, info.port
            seen["addresses"] = sorted(info.parsed_addresses(IPVersion.V4Only))
            seen["txt"] = {key.decode(): (value or b"").decode() for key, value in info.properties.items()}
        print(json.dumps(seen), flush=True)

    def add_service(self, zc, type_, name):
        self.tell("added", zc, type_, name)

    def update_service(self, zc, type_, name):
        self.tell("updated", zc, type_, name)

    def remove_service(self, zc, type_, name):
        self.tell("removed", zc, type_, name)


zeroconf = Zeroconf(ip_version=IPVersion.V4Only)
ServiceBrowser(zeroconf, sys.argv[1], Printer())
print(json.dumps({"event": "browsing"}), flush=True)
sys.stdin.read()
