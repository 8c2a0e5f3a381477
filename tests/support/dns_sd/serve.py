"""Serves the zone file of its first argument over UDP at the address and port that follow, until it is killed."""

import json
import socket
import sys

import dns.flags
import dns.message
import dns.rcode
import dns.zone

path, address, port = sys.argv[1:]
zone = dns.zone.from_file(path, origin=None, relativize=False)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((address, int(port)))
print(json.dumps({"event": "serving", "origin": zone.origin.to_text()}), flush=True)
while True:
    packet, client = server.recvfrom(4096)
    query = dns.message.from_wire(packet)
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.AA
    asked = query.question[0]
    if asked.name.is_subdomain(zone.origin):
        if zone.get_node(asked.name) is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            found = zone.get_rrset(asked.name, asked.rdtype)
            if found is not None:
                answer.answer.append(found)
    else:
        answer.set_rcode(dns.rcode.REFUSED)
    server.sendto(answer.to_wire(), client)
