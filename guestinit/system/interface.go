package system

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"warder/guestinit/dhcp"
	"warder/guestinit/proto"
)

// SetInterface brings up the interface that the host means and gives it its
// addresses and routes. It says which one that is.
func SetInterface(i proto.Interface) (*net.Interface, error) {
	link, err := interfaceByMAC(i.MAC)
	if err != nil {
		return nil, err
	}
	r, err := openRtnetlink()
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.linkUp(link.Index, i.MTU); err != nil {
		return nil, fmt.Errorf("bring interface %s up: %w", i.MAC, err)
	}
	for _, a := range i.Addresses {
		if err := r.addAddress(link.Index, a, dhcp.Forever); err != nil {
			return nil, fmt.Errorf("address %v: %w", a, err)
		}
	}
	for _, g := range i.Gateways {
		if err := r.addDefaultRoute(link.Index, g); err != nil {
			return nil, fmt.Errorf("route by %v (is it in the network of an address?): %w", g, err)
		}
	}
	return link, nil
}

// SetLease gives an interface what is leased now, in place of what was before; the
// zero Lease is nothing. The kernel takes the address away if it is not renewed.
func SetLease(link *net.Interface, was, now dhcp.Lease) error {
	r, err := openRtnetlink()
	if err != nil {
		return err
	}
	defer r.close()
	if was.Address != now.Address && was.Address.IsValid() {
		// The kernel may have been first.
		if err := r.removeAddress(link.Index, was.Address); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("give the address %v back: %w", was.Address, err)
		}
	}
	if !now.Address.IsValid() {
		return nil
	}
	if err := r.addAddress(link.Index, now.Address, now.Duration); err != nil {
		return fmt.Errorf("address %v: %w", now.Address, err)
	}
	for _, route := range now.Routes {
		if err := r.addRoute(link.Index, route, now.Address.Addr()); err != nil {
			return fmt.Errorf("route to %v by %v: %w", route.To, route.Via, err)
		}
	}
	return nil
}

// interfaceByMAC finds an interface. Names depend on the order in which drivers find
// their devices, an address does not.
func interfaceByMAC(mac string) (*net.Interface, error) {
	want, err := net.ParseMAC(mac)
	if err != nil {
		return nil, err
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if bytes.Equal(i.HardwareAddr, want) {
			return &i, nil
		}
	}
	return nil, fmt.Errorf("no network interface with the address %s: the guest kernel has no virtio_net, or its module is missing", mac)
}
