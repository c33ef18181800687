package dhcp

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Forever is the duration of a lease that does not end.
const Forever = time.Duration(math.MaxInt64)

const (
	// usualDuration is that of a lease whose server does not say.
	usualDuration = time.Hour
	// infinity is how a server says for ever (RFC 2131, 3.3).
	infinity = math.MaxUint32 * time.Second
	// minRenewal bounds how often a server has us ask it.
	minRenewal = time.Second
)

// A Lease is what a server lends an interface, and says of the network. The zero
// Lease is none.
type Lease struct {
	Address   netip.Prefix
	Routes    []Route // in the order in which they are to be set
	Resolvers []netip.Addr
	Duration  time.Duration // from when it was asked for
}

// A Route is the way to a network.
type Route struct {
	To  netip.Prefix
	Via netip.Addr // unspecified where the network is on the link itself
}

// parse takes a lease out of a server's acknowledgement, and how long to wait
// before it is to be renewed.
func parse(ack *dhcpv4.DHCPv4) (l Lease, renewal time.Duration, err error) {
	addr, ok := four(ack.YourIPAddr)
	if !ok || !addr.IsGlobalUnicast() && !addr.IsLinkLocalUnicast() {
		return l, 0, fmt.Errorf("the server lends the address %v", ack.YourIPAddr)
	}
	mask := ack.SubnetMask()
	if len(mask) == 0 {
		mask = ack.YourIPAddr.DefaultMask()
	}
	ones, bits := mask.Size()
	if bits != 32 {
		return l, 0, fmt.Errorf("the server says that the network has the mask %v", mask)
	}
	l.Address = netip.PrefixFrom(addr, ones)
	l.Routes = routes(ack)
	for _, ip := range ack.DNS() {
		if a, ok := four(ip); ok {
			l.Resolvers = append(l.Resolvers, a)
		}
	}
	l.Duration = max(ack.IPAddressLeaseTime(usualDuration), 2*minRenewal)
	if l.Duration >= infinity {
		l.Duration = Forever
		return l, Forever, nil
	}
	renewal = ack.IPAddressRenewalTime(l.Duration / 2)
	return l, min(max(renewal, minRenewal), l.Duration), nil
}

// routes are those that the server says, and the way to its router only if it says
// none (RFC 3442).
func routes(ack *dhcpv4.DHCPv4) (list []Route) {
	for _, r := range ack.ClasslessStaticRoute() {
		to, ok := four(r.Dest.IP)
		via, ok2 := four(r.Router)
		if ones, bits := r.Dest.Mask.Size(); ok && ok2 && bits == 32 {
			list = append(list, Route{netip.PrefixFrom(to, ones).Masked(), via})
		}
	}
	if len(list) > 0 {
		return list
	}
	for _, ip := range ack.Router() {
		if via, ok := four(ip); ok {
			return []Route{{netip.PrefixFrom(netip.IPv4Unspecified(), 0), via}}
		}
	}
	return nil
}

func four(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	return a, ok
}
