"""A router's NAT-PMP server that maps on whatever address the router has, a private one included.

Real ones refuse that nowadays (miniupnpd), or do not (many home routers). Run on a router of the lab.
"""

import json
import socket
import struct
import subprocess
import time

PORT = 5351
RULES = "table ip mapped {\n chain pre {\n  type nat hook prerouting priority dstnat - 5\n }\n}\n"


def address_of(device):
    told = subprocess.run(["ip", "-j", "-4", "addr", "show", device], capture_output=True, check=True)
    return json.loads(told.stdout)[0]["addr_info"][0]["local"]


def nft(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def main():
    nft(RULES)
    started = time.time()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address_of("lan"), PORT))
    while True:
        data, client = server.recvfrom(64)
        epoch = int(time.time() - started)
        if data == b"\0\0":
            answer = struct.pack(">BBHI", 0, 128, 0, epoch) + socket.inet_aton(address_of("wan"))
        elif data[:2] == b"\0\1" and len(data) == 12:
            internal, external, lifetime = struct.unpack(">HHI", data[4:])
            if lifetime:
                rule = f'iifname "wan" udp dport {external} dnat to {client[0]}:{internal}'
                nft(f"add rule ip mapped pre {rule}\n")
            else:
                nft("flush chain ip mapped pre\n")
                external = 0
            answer = struct.pack(">BBHIHHI", 0, 129, 0, epoch, internal, external, lifetime)
        else:
            continue
        server.sendto(answer, client)


if __name__ == "__main__":
    main()
