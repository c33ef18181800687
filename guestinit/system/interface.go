package system

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"warder/guestinit/proto"
)

// SetInterface brings up the interface that the host means and gives it its
// addresses and routes.
func SetInterface(i proto.Interface) error {
	index, err := interfaceByMAC(i.MAC)
	if err != nil {
		return err
	}
	r, err := openRtnetlink()
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.linkUp(index, i.MTU); err != nil {
		return fmt.Errorf("bring interface %s up: %w", i.MAC, err)
	}
	for _, a := range i.Addresses {
		if err := r.addAddress(index, a); err != nil {
			return fmt.Errorf("address %v: %w", a, err)
		}
	}
	for _, g := range i.Gateways {
		if err := r.addDefaultRoute(index, g); err != nil {
			return fmt.Errorf("route by %v (is it in the network of an address?): %w", g, err)
		}
	}
	return nil
}

// interfaceByMAC finds an interface. Names depend on the order in which drivers find
// their devices, an address does not.
func interfaceByMAC(mac string) (index int, err error) {
	want, err := net.ParseMAC(mac)
	if err != nil {
		return 0, err
	}
	all, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, i := range all {
		if bytes.Equal(i.HardwareAddr, want) {
			return i.Index, nil
		}
	}
	return 0, fmt.Errorf("no network interface with the address %s: the guest kernel has no virtio_net, or its module is missing", mac)
}

const resolvConf = "/etc/resolv.conf"

// SetResolvers says whom to ask for names. Without servers it leaves the guest's.
func SetResolvers(servers []string) error {
	if len(servers) == 0 {
		return nil
	}
	if err := os.Mkdir("/etc", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return os.WriteFile(resolvConf, []byte(b.String()), 0o644)
}
