"""peerway connects two machines behind NATs and firewalls, by key."""
