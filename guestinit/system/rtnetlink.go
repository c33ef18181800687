package system

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/dhcp"
)

// rtnetlink is a socket to the kernel's network configuration, rtnetlink(7): the few
// requests that a guest needs, without a library for all.
type rtnetlink struct {
	fd  int
	seq uint32
}

func openRtnetlink() (*rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &rtnetlink{fd: fd}, nil
}

func (r *rtnetlink) close() { unix.Close(r.fd) }

// linkUp brings an interface up, with this MTU unless it is 0.
func (r *rtnetlink) linkUp(index, mtu int) error {
	b := make([]byte, 4, 64) // struct ifinfomsg: any family, any type
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, unix.IFF_UP)
	b = binary.NativeEndian.AppendUint32(b, unix.IFF_UP) // the flags to change
	if mtu != 0 {
		b = attribute(b, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(mtu)))
	}
	return r.do(unix.RTM_NEWLINK, 0, b)
}

// addAddress gives an interface an address, with the route to its network, for
// some time, which starts again when it has the address already. An IPv6 address
// is good at once: the host says that nobody else has it.
func (r *rtnetlink) addAddress(index int, p netip.Prefix, lifetime time.Duration) error {
	flags := byte(0)
	if p.Addr().Is6() {
		flags = unix.IFA_F_NODAD
	}
	b := addressMessage(index, p, flags)
	if a := p.Addr(); a.Is4() && p.Bits() < 31 {
		b = attribute(b, unix.IFA_BROADCAST, broadcast(p).AsSlice())
	}
	if lifetime != dhcp.Forever {
		seconds := uint32(min(lifetime/time.Second, math.MaxUint32-1))
		cache := binary.NativeEndian.AppendUint32(nil, seconds)  // struct ifa_cacheinfo: preferred,
		cache = binary.NativeEndian.AppendUint32(cache, seconds) // valid, and two that are the kernel's
		b = attribute(b, unix.IFA_CACHEINFO, append(cache, make([]byte, 8)...))
	}
	return r.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, b)
}

// removeAddress takes an address away, and the routes that go by it.
func (r *rtnetlink) removeAddress(index int, p netip.Prefix) error {
	return r.do(unix.RTM_DELADDR, 0, addressMessage(index, p, 0))
}

// addressMessage is a struct ifaddrmsg with the address behind it.
func addressMessage(index int, p netip.Prefix, flags byte) []byte {
	b := []byte{family(p.Addr()), byte(p.Bits()), flags, unix.RT_SCOPE_UNIVERSE}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = attribute(b, unix.IFA_LOCAL, p.Addr().AsSlice())
	return attribute(b, unix.IFA_ADDRESS, p.Addr().AsSlice())
}

// addDefaultRoute sends what has no other way through a gateway.
func (r *rtnetlink) addDefaultRoute(index int, gateway netip.Addr) error {
	return r.addRoute(index, dhcp.Route{To: netip.PrefixFrom(gateway, 0).Masked(), Via: gateway}, netip.Addr{})
}

// leasedMetric puts routes of leases behind those that the host gives.
const leasedMetric = 1024

// addRoute adds a route. With an address to send from, which is a leased one, it goes
// when that goes, and others to the same network come first.
func (r *rtnetlink) addRoute(index int, route dhcp.Route, from netip.Addr) error {
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if route.Via.IsUnspecified() {
		scope = unix.RT_SCOPE_LINK
	}
	b := []byte{ // struct rtmsg
		family(route.Via), byte(route.To.Bits()), 0, 0,
		unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, scope, unix.RTN_UNICAST,
		0, 0, 0, 0,
	}
	if route.To.Bits() > 0 {
		b = attribute(b, unix.RTA_DST, route.To.Addr().AsSlice())
	}
	if !route.Via.IsUnspecified() {
		b = attribute(b, unix.RTA_GATEWAY, route.Via.AsSlice())
	}
	if from.IsValid() {
		b = attribute(b, unix.RTA_PREFSRC, from.AsSlice())
		b = attribute(b, unix.RTA_PRIORITY, binary.NativeEndian.AppendUint32(nil, uint32(leasedMetric+index)))
	}
	b = attribute(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index)))
	return r.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, b)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | ^uint32(0)>>p.Bits()
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// attribute appends an attribute to a message: length, kind, data, padded to 4 bytes.
func attribute(b []byte, kind uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// do makes a request and waits for the kernel's answer.
func (r *rtnetlink) do(kind, flags uint16, body []byte) error {
	r.seq++
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body))) // struct nlmsghdr
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	b = binary.NativeEndian.AppendUint32(b, r.seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // our port: the kernel knows it
	b = append(b, body...)
	if err := unix.Sendto(r.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	answer := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(r.fd, answer, 0)
		if err != nil {
			return fmt.Errorf("rtnetlink: %w", err)
		}
		if n < unix.NLMSG_HDRLEN+4 {
			return errors.New("rtnetlink: an answer without a result")
		}
		if binary.NativeEndian.Uint32(answer[8:]) != r.seq || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
			continue
		}
		if code := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	}
}
