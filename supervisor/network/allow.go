package network

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
	"warder/supervisor/declaration"
)

// uplinkPrefix is what names of uplinks begin with, before the VLAN's.
const uplinkPrefix = "uplink."

// line is a declaration in one line.
func line(a declaration.Allow) string {
	s := strings.Join(a.From, ",") + " -> " + strings.Join(a.To, ",") + ": " + strings.Join(portsOf(a), ", ")
	if h := a.HTTP; h != nil {
		s += ", HTTP"
		for _, l := range []struct {
			what string
			list declaration.List
		}{{"method", h.Method}, {"host", h.Host}, {"path", h.Path}} {
			if len(l.list) > 0 {
				s += " " + l.what + " " + strings.Join(l.list, "|")
			}
		}
	}
	if len(a.DNS) > 0 {
		s += ", DNS " + strings.Join(a.DNS, "|")
	}
	return s
}

// portsOf are those at which a may be spoken to.
func portsOf(a declaration.Allow) declaration.List {
	switch {
	case len(a.Ports) > 0:
		return a.Ports
	case a.HTTP != nil:
		return declaration.List{"tcp/80"}
	case len(a.DNS) > 0:
		return declaration.List{"udp/53", "tcp/53"}
	}
	return nil
}

// portRange is a protocol and ports of it.
type portRange struct {
	proto       uint8
	first, last uint16
}

const portSyntax = "give tcp/80, udp/5000-5100, tcp, udp, icmp or all"

func parsePorts(s string) (r portRange, err error) {
	name, ports, has := strings.Cut(s, "/")
	proto, known := map[string]uint8{"tcp": packet.TCP, "udp": packet.UDP, "icmp": packet.ICMP, "all": 0}[name]
	if !known || has && proto != packet.TCP && proto != packet.UDP {
		return r, fmt.Errorf("ports %q: %s", s, portSyntax)
	}
	r.proto = proto
	if !has {
		return r, nil
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if errA != nil || errB != nil || a == 0 || a > b {
		return r, fmt.Errorf("ports %q: %s", s, portSyntax)
	}
	r.first, r.last = uint16(a), uint16(b)
	return r, nil
}

// rules are what a list of declarations comes to. Names of services that are not known
// are a mistake.
func rules(allow []declaration.Allow, known func(string) bool) (list []lan.Rule, err error) {
	for i, a := range allow {
		if len(a.From) == 0 || len(a.To) == 0 || len(portsOf(a)) == 0 {
			return nil, fmt.Errorf("allow %d: give from, to and ports", i+1)
		}
		for _, name := range append(append(declaration.List{}, a.From...), a.To...) {
			if name != lan.Everybody && !known(name) {
				return nil, fmt.Errorf("allow %d: no service %s is on the LAN", i+1, name)
			}
			if (a.HTTP != nil || len(a.DNS) > 0) && strings.HasPrefix(name, uplinkPrefix) {
				return nil, fmt.Errorf("allow %d: requests are read between services: give ports alone for %s", i+1, name)
			}
		}
		for _, s := range portsOf(a) {
			r, err := parsePorts(s)
			if err != nil {
				return nil, fmt.Errorf("allow %d: %w", i+1, err)
			}
			rule := lan.Rule{Proto: r.proto, First: r.first, Last: r.last}
			if h := a.HTTP; h != nil {
				rule.HTTP = &request.HTTP{Hosts: h.Host, Methods: h.Method, Paths: h.Path}
			}
			if len(a.DNS) > 0 {
				rule.DNS = &request.DNS{Names: a.DNS}
			}
			for _, rule.From = range a.From {
				for _, rule.To = range a.To {
					list = append(list, rule)
				}
			}
		}
	}
	return list, nil
}

// ofItself are the declarations of what a service may say to others, and they to it, with
// both ends.
func ofItself(name string, allow []declaration.Allow) []declaration.Allow {
	list := slices.Clone(allow)
	for i := range list {
		if len(list[i].From) == 0 {
			list[i].From = declaration.List{name}
		} else if len(list[i].To) == 0 {
			list[i].To = declaration.List{name}
		}
	}
	return list
}
