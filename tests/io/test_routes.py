from peerway.io.routes import DefaultRoute, default_routes, fingerprint, parse_netstat, parse_route_print

MACOS = """\
Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
default            link#17            UCSIg             bridge0      !
127                127.0.0.1          UCS                   lo0
192.168.1          link#12            UCS                   en0      !
"""
WINDOWS = """\
===========================================================================
IPv4-Routentabelle
===========================================================================
Aktive Routen:
     Netzwerkziel    Netzwerkmaske          Gateway    Schnittstelle Metrik
          0.0.0.0          0.0.0.0      192.168.1.1    192.168.1.100     25
          0.0.0.0          0.0.0.0   Auf Verbindung         10.8.0.2     50
        127.0.0.0        255.0.0.0   Auf Verbindung         127.0.0.1    331
"""


def test_netstat_tells_the_gateway_and_its_interface():
    assert parse_netstat(MACOS) == (DefaultRoute(4, "en0", "192.168.1.1"),)


def test_route_print_tells_the_gateway_by_the_address_of_the_interface():
    assert parse_route_print(WINDOWS) == (DefaultRoute(4, "192.168.1.100", "192.168.1.1", 25),)


def test_what_cannot_be_read_is_no_route():
    assert parse_netstat("netstat: command not found\n") == ()
    assert parse_route_print("          0.0.0.0  0.0.0.0  192.168.1.1  192.168.1.100  n/a\n") == ()


def test_asking_this_machine_never_fails():
    assert isinstance(default_routes(), tuple)
    assert isinstance(fingerprint(), tuple)
