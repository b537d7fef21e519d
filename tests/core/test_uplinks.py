from peerway.core.machine import CloseSocket, InterfaceAddress, OpenSocket, UdpAddress
from peerway.core.path.uplinks import (
    MAX_FURTHER_UPLINKS,
    Uplinks,
    families_moved,
    further_uplinks,
    sends_elsewhere,
)

ETHERNET = InterfaceAddress("eth0", "192.168.1.2", 24, 100)
WIFI = InterfaceAddress("wlan0", "192.168.7.2", 24, 600)
ETHERNET_6 = InterfaceAddress("eth0", "2001:db8:1::2", 64, 100)
WIFI_6 = InterfaceAddress("wlan0", "2001:db8:7::2", 64, 600)
BRIDGE = InterfaceAddress("docker0", "172.17.0.1", 16)


def test_one_way_out_needs_no_further_socket():
    assert further_uplinks((ETHERNET, ETHERNET_6, BRIDGE)) == []


def test_each_further_way_out_gets_one_in_each_family():
    assert further_uplinks((BRIDGE, WIFI, ETHERNET, WIFI_6, ETHERNET_6)) == [
        ("wlan0", "192.168.7.2"),
        ("wlan0", "2001:db8:7::2"),
    ]


def test_there_is_a_limit():
    many = tuple(InterfaceAddress(f"ppp{n}", f"10.0.{n}.2", 24, n) for n in range(20))
    assert [interface for interface, _ in further_uplinks(many)] == ["ppp1", "ppp2", "ppp3"]
    assert MAX_FURTHER_UPLINKS == 3


def test_sockets_come_and_go_with_the_interfaces():
    uplinks = Uplinks()
    assert uplinks.interfaces_changed((ETHERNET, WIFI)) == [OpenSocket("wlan0", "192.168.7.2")]
    assert uplinks.interfaces_changed((ETHERNET, WIFI)) == []
    socket = UdpAddress("192.168.7.2", 5000)
    assert uplinks.socket_opened("wlan0", socket)
    assert uplinks.sockets == (socket,)
    assert uplinks.interfaces_changed((WIFI,)) == [CloseSocket(socket)]
    assert uplinks.sockets == ()


def test_a_socket_that_cannot_be_had_is_asked_for_again_when_interfaces_change():
    uplinks = Uplinks()
    assert uplinks.interfaces_changed((ETHERNET, WIFI)) == [OpenSocket("wlan0", "192.168.7.2")]
    uplinks.socket_failed("wlan0", "192.168.7.2")
    assert uplinks.interfaces_changed((ETHERNET, WIFI)) == [OpenSocket("wlan0", "192.168.7.2")]


def test_a_socket_that_comes_too_late_is_not_wanted():
    uplinks = Uplinks()
    uplinks.interfaces_changed((ETHERNET, WIFI))
    uplinks.interfaces_changed((ETHERNET,))
    assert not uplinks.socket_opened("wlan0", UdpAddress("192.168.7.2", 5000))


OTHER_WIFI = InterfaceAddress("wlan0", "192.168.9.2", 24, 600)


def unrouted(address):
    return InterfaceAddress(address.interface, address.ip, address.prefix_length, None)


def test_the_system_sends_from_elsewhere_once_its_favourite_changes():
    assert families_moved((ETHERNET, WIFI), (WIFI,)) == (4,)
    assert families_moved((WIFI,), (ETHERNET, WIFI)) == (4,)
    assert families_moved((WIFI, WIFI_6), (OTHER_WIFI, WIFI_6)) == (4,)
    assert families_moved((ETHERNET, ETHERNET_6), ()) == (4, 6)
    assert families_moved((ETHERNET, BRIDGE), (BRIDGE,)) == (4,)


def test_what_is_not_the_favourite_comes_and_goes_without_consequence():
    assert families_moved((ETHERNET, WIFI, BRIDGE), (ETHERNET,)) == ()
    assert families_moved((ETHERNET,), (ETHERNET, WIFI, BRIDGE)) == ()
    assert families_moved((), (ETHERNET, ETHERNET_6)) == ()


def test_without_known_routes_an_address_in_the_place_of_another_counts():
    one, other, third = map(unrouted, (ETHERNET, WIFI, OTHER_WIFI))
    assert families_moved((one, other), (one,)) == ()
    assert families_moved((one, other), (one, third)) == (4,)
    assert families_moved((one,), ()) == (4,)


def test_only_sockets_that_follow_the_routes_send_from_elsewhere():
    assert sends_elsewhere(UdpAddress("0.0.0.0", 41641), (4,))
    assert not sends_elsewhere(UdpAddress("::", 41641), (4,))
    assert not sends_elsewhere(UdpAddress("192.168.7.2", 50000), (4, 6))
