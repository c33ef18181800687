package network

import (
	"errors"
	"fmt"
	"net/netip"
)

// Put gives a service a place on a LAN that is up, in place of the one that it has. It
// keeps the addresses that it has, or had by [Options.Kept], unless it asks for others.
// keep is told all of them once everything is found to be well; its error is Put's, and
// then, as after any other, all is as it was.
func (n *Network) Put(s Service, keep func([]netip.Addr) error) error {
	if n == nil {
		return errors.New("lan: there is no LAN: say what VLANs there are under lan in the host's file")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.put(s, keep); err != nil {
		return fmt.Errorf("lan: %w", err)
	}
	return nil
}

func (n *Network) put(s Service, keep func([]netip.Addr) error) error {
	old, had := n.services[s.Name], n.taken.of(s.Name)
	own, err := n.prepare(s, old)
	own.added = true
	if err == nil {
		err = n.declares(own)
	}
	if err == nil {
		err = n.exchange(old, own, keep)
	}
	if err != nil {
		own.unpublish(old)
		n.taken.set(s.Name, had)
		return err
	}
	n.taken.set(s.Name, own.cfg.Addresses)
	delete(n.kept, s.Name)
	n.publish(own)
	if old != nil {
		n.forget(old, own)
	}
	n.setEgress()
	return nil
}

// exchange has one port of the switch take the place of another, if there is one, with its
// rules. After an error all is as it was.
func (n *Network) exchange(old, own *service, keep func([]netip.Addr) error) (err error) {
	back := func() {
		delete(n.services, own.Name)
		if old != nil {
			n.services[old.Name] = old
		}
	}
	n.services[own.Name] = own
	if err := n.setRules(); err != nil {
		back()
		return err
	}
	if old != nil {
		n.lan.Remove(old.port)
	}
	if own.port, err = n.lan.AddPort(own.cfg); err == nil {
		own.net.Port = own.port
		if err = keep(own.cfg.Addresses); err == nil {
			return nil
		}
		n.lan.Remove(own.port)
	}
	back()
	if old != nil {
		var e error
		old.port, e = n.lan.AddPort(old.cfg)
		old.net.Port = old.port
		err = errors.Join(err, e)
	}
	return errors.Join(err, n.setRules())
}

// Remove takes a service's place on the LAN, its addresses and ports back. Its VM is gone.
func (n *Network) Remove(name string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taken.set(name, nil)
	delete(n.kept, name)
	s := n.services[name]
	if s == nil {
		return
	}
	delete(n.services, name)
	n.lan.Remove(s.port)
	n.forget(s, nil)
	n.setEgress()
	if err := n.setRules(); err != nil { // they were good with more
		n.log.Error("rules of the LAN", "err", err)
	}
}

// forget ends what led to a service that is no more, but for what another goes on with.
func (n *Network) forget(s, other *service) {
	s.unpublish(other)
	for _, v := range n.vlans {
		v.gateway.Forget(s.port)
	}
}
