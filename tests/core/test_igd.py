"""UPnP documents. `ROOT` and the answers are what miniupnpd 2.3.1 sent, shortened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import WireError
from peerway.core.portmap.igd import (
    MAX_DOCUMENT_BYTES,
    Description,
    Entry,
    Fault,
    Service,
    build_call,
    entry,
    external_ip,
    is_connected,
    parse_answer,
    parse_description,
    reserved_port,
)
from peerway.core.portmap.location import Location

HERE = Location("10.1.1.1", 5000, "/rootDesc.xml")
IP2 = "urn:schemas-upnp-org:service:WANIPConnection:2"
IP1 = "urn:schemas-upnp-org:service:WANIPConnection:1"
PPP1 = "urn:schemas-upnp-org:service:WANPPPConnection:1"
OTHER = "urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1"


def service(kind, control):
    return (
        f"<service><serviceType>{kind}</serviceType><serviceId>x</serviceId>"
        f"<SCPDURL>/x.xml</SCPDURL><controlURL>{control}</controlURL></service>"
    )


def root(*services, base="", name="<modelName>Debian router</modelName>"):
    return (
        '<?xml version="1.0"?>\n<root xmlns="urn:schemas-upnp-org:device-1-0" configId="1337">'
        f"<specVersion><major>1</major><minor>1</minor></specVersion>{base}<device>"
        f"<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:2</deviceType>{name}"
        f"<serviceList>{service(OTHER, '/ctl/L3F')}</serviceList>"
        f"<deviceList><device><serviceList>{''.join(services)}</serviceList></device></deviceList>"
        "</device></root>"
    ).encode()


def control(path, port=5000):
    return Location("10.1.1.1", port, path)


def test_the_connection_is_found_however_deep():
    assert parse_description(root(service(IP2, "/ctl/IPConn")), HERE) == Description(
        "Debian router", (Service(IP2, control("/ctl/IPConn")),)
    )


def test_newer_and_ip_connections_go_first():
    found = parse_description(root(service(PPP1, "/p"), service(IP1, "/1"), service(IP2, "/2")), HERE)
    assert [s.control.path for s in found.services] == ["/2", "/1", "/p"]
    assert [s.version for s in found.services] == [2, 1, 1]
    assert [s.gives_any_port for s in found.services] == [True, False, False]


def test_control_may_be_at_another_port_of_the_same_host():
    found = parse_description(root(service(IP1, "http://10.1.1.1:49152/c")), HERE)
    assert found.services[0].control == control("/c", 49152)


def test_references_start_from_the_base_where_there_is_one():
    document = root(service(IP1, "/c"), base="<URLBase>http://10.1.1.1:80/</URLBase>")
    assert parse_description(document, HERE).services[0].control == control("/c", 80)


def test_a_name_is_for_people_alone():
    found = parse_description(
        root(service(IP1, "/c"), name=f"<friendlyName>{'ü&#x85;' * 99}</friendlyName>"), HERE
    )
    assert found.name == "ü" * 64
    assert parse_description(root(service(IP1, "/c"), name=""), HERE).name == ""


def test_no_more_than_eight_services_are_looked_at():
    found = parse_description(root(*(service(IP1, f"/{n}") for n in range(20))), HERE)
    assert len(found.services) == 8


@pytest.mark.parametrize(
    "document",
    [
        root(service(IP1, "http://10.1.1.2:5000/c")),
        root(service(IP1, "http://evil.example/c")),
        root(service(IP1, "/c"), base="<URLBase>http://10.9.9.9/</URLBase>"),
    ],
)
def test_a_description_that_points_elsewhere_is_refused(document):
    with pytest.raises(WireError, match=r"another host|not of the form|path"):
        parse_description(document, HERE)


BILLION_LAUGHS = b'<!DOCTYPE r [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><r>&b;</r>'
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r>&a;</r>'


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not the XML"),
        (b"<root>", "not the XML"),
        (b"<html>404</html>", "without a connection"),
        (root(), "without a connection"),
        (root(service(IP1, "")), "without a connection"),
        (BILLION_LAUGHS, "not the XML"),
        (EXTERNAL, "not the XML"),
        (b"<!DOCTYPE r><r/>", "not the XML"),
        (b'<?xml version="1.0" encoding="utf-7"?><r/>', "not the XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><r/>', "not the XML"),
        (b"<r>" + b" " * MAX_DOCUMENT_BYTES + b"</r>", "too large"),
        (b"<r>" + b"<a/>" * 5000 + b"</r>", "too many elements"),
        (b"<a>" * 30_000 + b"</a>" * 30_000, "too many elements"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:20],
)
def test_hostile_and_broken_descriptions_are_refused(document, reason):
    with pytest.raises(WireError, match=reason):
        parse_description(document, HERE)


# --- calls ----------------------------------------------------------------------------


def envelope(inner):
    return (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f"<s:Body>{inner}</s:Body></s:Envelope>\r\n"
    ).encode()


def answer(action, **values):
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    return envelope(f'<u:{action}Response xmlns:u="{IP2}">{inner}</u:{action}Response>')


def fault(number, words):
    return envelope(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">'
        f"<errorCode>{number}</errorCode><errorDescription>{words}</errorDescription>"
        "</UPnPError></detail></s:Fault>"
    )


def test_a_call_keeps_the_order_of_its_arguments_and_escapes_them():
    body = build_call(IP1, "AddPortMapping", [("NewRemoteHost", ""), ("NewPortMappingDescription", "a<&>b")])
    assert body == (
        b'<?xml version="1.0"?>\r\n'
        b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        b's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        b'<u:AddPortMapping xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">'
        b"<NewRemoteHost></NewRemoteHost>"
        b"<NewPortMappingDescription>a&lt;&amp;&gt;b</NewPortMappingDescription>"
        b"</u:AddPortMapping></s:Body></s:Envelope>\r\n"
    )


def test_an_answer_has_arguments():
    found = parse_answer(
        answer("GetExternalIPAddress", NewExternalIPAddress="11.1.0.2"), "GetExternalIPAddress"
    )
    assert found == {"NewExternalIPAddress": "11.1.0.2"}
    assert parse_answer(answer("AddPortMapping"), "AddPortMapping") == {}


def test_a_fault_has_a_number_and_words():
    found = parse_answer(fault(718, "ConflictInMappingEntry"), "AddPortMapping")
    assert found == Fault(718, "ConflictInMappingEntry")
    assert str(found) == "error 718 (ConflictInMappingEntry)"
    assert str(Fault(501)) == "error 501"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (answer("DeletePortMapping"), "neither"),
        (b"<html/>", "neither"),
        (fault("many", ""), "number"),
        (fault("99999999999", ""), "number"),
        (fault("७१८", ""), "number"),
        (BILLION_LAUGHS, "not the XML"),
    ],
)
def test_what_is_no_answer_is_refused(document, reason):
    with pytest.raises(WireError, match=reason):
        parse_answer(document, "AddPortMapping")


@pytest.mark.parametrize(
    ("text", "ip"), [("11.1.0.2", "11.1.0.2"), ("0.0.0.0", ""), ("", ""), ("fe80::1", ""), ("nonsense", "")]
)
def test_an_external_address_is_an_ipv4_address_or_none(text, ip):
    assert external_ip({"NewExternalIPAddress": text}) == ip


def test_connected_has_two_words():
    assert is_connected({"NewConnectionStatus": "Connected"})
    assert is_connected({"NewConnectionStatus": "Up"})
    assert not is_connected({"NewConnectionStatus": "Disconnected"})
    assert not is_connected({})


def test_an_entry_says_whose_it_is():
    listed = {
        "NewInternalPort": "41641",
        "NewInternalClient": "10.1.1.100",
        "NewEnabled": "1",
        "NewPortMappingDescription": "peerway <&>",
        "NewLeaseDuration": "3600",
    }
    assert entry(listed) == Entry("10.1.1.100", 41641, True, "peerway <&>", 3600)
    assert not entry({**listed, "NewEnabled": "0"}).enabled
    with pytest.raises(WireError, match="number"):
        entry({})


def test_the_port_a_gateway_chose_is_a_number():
    assert reserved_port({"NewReservedPort": "41641"}) == 41641
    with pytest.raises(WireError, match="number"):
        reserved_port({})


XML = st.recursive(
    st.text("ab<&>\"'; /=", max_size=8),
    lambda inner: st.builds("<{0}>{1}</{0}>".format, st.sampled_from(["service", "controlURL", "x"]), inner),
    max_leaves=20,
)


@given(st.binary(max_size=200) | XML.map(str.encode))
def test_any_bytes_are_a_document_or_a_wire_error(data):
    for read in (lambda: parse_description(data, HERE), lambda: parse_answer(data, "x")):
        try:
            read()
        except WireError:
            pass
