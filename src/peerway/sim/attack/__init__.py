"""Those who mean harm: strangers who send anything as anyone, admitted peers, and relays."""
