package vmm

import (
	"crypto/sha256"
	"fmt"

	"warder/devices/virtio/net"
	"warder/devices/virtio/net/tap"
)

// A Net is a network interface of the guest's, eth0 and on. It is plugged into a
// port or a TAP.
type Net struct {
	// Port is where frames come from and go to, in this process: an end of
	// [net.Wire], a port of a switch.
	Port net.Port
	// TAP is the name of an interface of the host's, made if there is none, see
	// [tap.Open].
	TAP string
	// MAC is the interface's address. Default: [DefaultMAC].
	MAC net.MAC
	// MTU is the longest IP packet in bytes. Default: the TAP's, or 1500.
	MTU int
	// Pairs is the number of queue pairs. Default: one a vCPU, at most
	// [net.MaxPairs].
	Pairs int
}

// DefaultMAC is the address of interface i of the machine with a name: always the
// same, and locally administered.
func DefaultMAC(name string, i int) (m net.MAC) {
	sum := sha256.Sum256(fmt.Appendf(nil, "interface %d of %s", i, name))
	copy(m[:], sum[:])
	m[0] = m[0]&^1 | 2 // of one interface, given by no manufacturer
	return m
}

// withNetDefaults fills in what c leaves open of its interfaces.
func (c *Config) withNetDefaults() {
	c.Nets = append([]Net(nil), c.Nets...) // the caller's stays as it is
	for i := range c.Nets {
		n := &c.Nets[i]
		if n.MAC == (net.MAC{}) {
			n.MAC = DefaultMAC(c.Name, i)
		}
		if n.Pairs == 0 {
			n.Pairs = min(c.CPUs, net.MaxPairs)
		}
	}
}

func (c Config) validateNets() (errs []error) {
	taken := map[net.MAC]bool{}
	for i, n := range c.Nets {
		if (n.Port == nil) == (n.TAP == "") {
			errs = append(errs, fmt.Errorf("network interface %d: give it one thing to be plugged into", i))
		}
		if !n.MAC.Unicast() {
			errs = append(errs, fmt.Errorf("network interface %d: MAC address %v is not of one interface: make its first byte even", i, n.MAC))
		}
		if taken[n.MAC] {
			errs = append(errs, fmt.Errorf("network interface %d: MAC address %v is taken", i, n.MAC))
		}
		taken[n.MAC] = true
		if n.MTU != 0 && (n.MTU < net.MinMTU || n.MTU > net.MaxMTU) {
			errs = append(errs, fmt.Errorf("network interface %d: MTU %d: give %d to %d", i, n.MTU, net.MinMTU, net.MaxMTU))
		}
		if n.Pairs < 1 || n.Pairs > net.MaxPairs {
			errs = append(errs, fmt.Errorf("network interface %d: %d queue pairs: give 1 to %d", i, n.Pairs, net.MaxPairs))
		}
	}
	return errs
}

// addNets adds the network interfaces in their order.
func (m *Machine) addNets() error {
	for _, n := range m.cfg.Nets {
		if n.TAP != "" {
			t, err := tap.Open(n.TAP, n.Pairs)
			if err != nil {
				return err
			}
			m.onClose(t.Close)
			n.Port = t
			if n.MTU == 0 {
				n.MTU = min(t.MTU(), net.MaxMTU)
			}
		}
		dev, err := net.New(net.Config{Port: n.Port, MAC: n.MAC, MTU: n.MTU, Pairs: n.Pairs})
		if err != nil {
			return err
		}
		m.nets = append(m.nets, dev)
		if err := m.addVirtio(dev); err != nil {
			return err
		}
	}
	return nil
}

// Nets are the machine's network devices in their order: to pull their cables, to
// count what they carry.
func (m *Machine) Nets() []*net.Device { return m.nets }
