package main

import (
	"fmt"
	"os"

	"warder/secmon/lan/monitor"
	"warder/supervisor/api"
	"warder/supervisor/network"
)

// controlSocket makes this process's VMs known to warder ls and warder inspect. A VM
// runs without it too: what fails is said and has no other consequence.
type controlSocket struct{ server *api.Server }

func openControlSocket() *controlSocket {
	s, err := api.Listen(api.Dir(), newLineLog(os.Stderr))
	if err != nil {
		fmt.Fprintln(os.Stderr, "warder:", err)
		fmt.Fprintln(os.Stderr, "warder: the VM runs, but warder ls and warder inspect will not find it")
	}
	return &controlSocket{s}
}

func (c *controlSocket) add(h *api.Hosted) {
	if c.server == nil {
		return
	}
	if err := c.server.Add(h); err != nil {
		fmt.Fprintln(os.Stderr, "warder:", err)
	}
}

// serveLAN makes this process's LAN known, and what its monitor sees, if it has one.
func (c *controlSocket) serveLAN(n *network.Network, m *monitor.Monitor) {
	if c.server == nil {
		return
	}
	c.server.Watch(m)
	if n != nil {
		c.server.ServeLAN(n)
	}
}

func (c *controlSocket) remove(name string) {
	if c.server != nil {
		c.server.Remove(name)
	}
}

// close forgets all VMs.
func (c *controlSocket) close() {
	if c.server == nil {
		return
	}
	if err := c.server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "warder:", err)
	}
	c.server = nil
}
