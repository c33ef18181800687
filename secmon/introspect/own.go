package introspect

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// OwnView is what a guest says of itself, from its /proc.
type OwnView struct {
	Processes map[int]bool
	Modules   map[string]bool
	Sockets   map[string]bool // by what OwnView and SocketInfo have in common
}

// OwnFiles are the files that ParseOwn reads, beside the names in /proc.
var OwnFiles = []string{"/proc/modules", "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6", "/proc/net/unix"}

// ParseOwn makes a view of the names in /proc and the text of [OwnFiles]. A line
// that is none of theirs is left out: the guest says what it likes.
func ParseOwn(proc []string, files map[string]string) OwnView {
	v := OwnView{make(map[int]bool), make(map[string]bool), make(map[string]bool)}
	for _, name := range proc {
		if pid, err := strconv.Atoi(name); err == nil {
			v.Processes[pid] = true
		}
	}
	for path, text := range files {
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) == 0 {
				continue
			}
			if path == "/proc/modules" {
				v.Modules[f[0]] = true
			} else if key, ok := ownSocket(strings.TrimPrefix(path, "/proc/net/"), f); ok {
				v.Sockets[key] = true
			}
		}
	}
	return v
}

// ownSocket is the key of a line of /proc/net/PROTO.
func ownSocket(proto string, f []string) (string, bool) {
	if proto == "unix" { // Num RefCount Protocol Flags Type St Inode Path
		if len(f) < 7 {
			return "", false
		}
		inode, err := strconv.ParseUint(f[6], 10, 64)
		return unixKey(inode), err == nil && inode != 0
	}
	if len(f) < 10 { // sl local remote st queues tr:tm retrnsmt uid timeout inode
		return "", false
	}
	local, ok1 := ownAddress(f[1])
	remote, ok2 := ownAddress(f[2])
	return proto + " " + local + " " + remote, ok1 && ok2
}

// ownAddress decodes an address of /proc/net: words in the machine's order, port.
func ownAddress(s string) (string, bool) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(raw)%4 != 0 {
		return "", false
	}
	for w := raw; len(w) > 0; w = w[4:] {
		binary.BigEndian.PutUint32(w, binary.LittleEndian.Uint32(w))
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(n)).String(), ok
}

func unixKey(inode uint64) string { return fmt.Sprintf("unix %d", inode) }

// key is a socket as /proc/net names it, "" for one that it does not show.
func (s SocketInfo) key() string {
	switch {
	case s.Proto != "unix":
		return s.Proto + " " + s.Local + " " + s.Remote
	case s.Inode != 0:
		return unixKey(s.Inode)
	}
	return ""
}

// Difference is something that the guest says of itself and that its memory
// contradicts.
type Difference struct {
	Kind string `json:"kind"` // process, module, socket
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// From says who does not see it: the guest, from which it is hidden, or the
	// host, to which the guest has made it up.
	From string `json:"from"`
}

// Compare holds what a guest says of itself, by own, against its memory. Both
// change all the time: each side is asked twice, in turn, and what comes or goes
// meanwhile is no difference. What seems to be one is looked at once more, for a guest's
// own view can miss what is there: /proc/net is read piece by piece, and a
// piece begins where the last one ended in a list that is not the same any more.
func (l *Live) Compare(ctx context.Context, own func(context.Context) (OwnView, error)) (all []Difference, err error) {
	var before, after bothViews
	for _, v := range []*bothViews{&before, &after} {
		if *v, err = l.bothViews(ctx, own); err != nil {
			return nil, err
		}
	}
	if all = between(before, after); len(all) == 0 {
		return nil, nil
	}
	again, err := l.bothViews(ctx, own)
	if err != nil {
		return nil, err
	}
	still := between(after, again)
	return slices.DeleteFunc(all, func(d Difference) bool { return !slices.Contains(still, d) }), nil
}

// bothViews are what memory says, and then what the guest says.
type bothViews struct {
	seen outside
	said OwnView
}

func (l *Live) bothViews(ctx context.Context, own func(context.Context) (OwnView, error)) (v bothViews, err error) {
	if v.seen, err = l.outside(ctx); err == nil {
		if v.said, err = own(ctx); err != nil {
			err = fmt.Errorf("introspect: the guest's own view: %w", err)
		}
	}
	return v, err
}

// between gives the differences of two pairs of views, one after the other. By the guest's
// first view what is in both of the host's, by the host's second what is in both of the guest's,
// must have been there.
func between(before, after bothViews) []Difference {
	seen, said := [2]outside{before.seen, after.seen}, [2]OwnView{before.said, after.said}
	all := differences("process", seen, said, func(o outside) map[string]string { return o.processes }, func(v OwnView) map[string]bool {
		names := make(map[string]bool)
		for pid := range v.Processes {
			names[strconv.Itoa(pid)] = true
		}
		return names
	})
	all = append(all, differences("module", seen, said, func(o outside) map[string]string { return o.modules }, func(v OwnView) map[string]bool { return v.Modules })...)
	return append(all, differences("socket", seen, said, func(o outside) map[string]string { return o.sockets }, func(v OwnView) map[string]bool { return v.Sockets })...)
}

func differences(kind string, seen [2]outside, said [2]OwnView, outer func(outside) map[string]string, inner func(OwnView) map[string]bool) (all []Difference) {
	before, after := outer(seen[0]), outer(seen[1])
	first, second := inner(said[0]), inner(said[1])
	for id, name := range after {
		// Of sockets, one at the same place is the same.
		if was, stayed := before[id]; stayed && was == name && !first[id] {
			all = append(all, Difference{kind, id, name, "guest"})
		}
	}
	for id := range first {
		if _, found := after[id]; second[id] && !found {
			all = append(all, Difference{kind, id, "", "host"})
		}
	}
	slices.SortFunc(all, func(a, b Difference) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// outside is the host's view: names by what a guest's view has too.
type outside struct{ processes, modules, sockets map[string]string }

func (l *Live) outside(ctx context.Context) (outside, error) {
	o := outside{make(map[string]string), make(map[string]string), make(map[string]string)}
	processes, err := l.Processes(ctx)
	if err != nil {
		return o, err
	}
	var net uint32
	for _, p := range processes {
		o.processes[strconv.Itoa(p.PID)] = p.Comm
		if p.PID == 1 {
			net = p.Namespaces["net"]
		}
	}
	modules, err := l.Modules(ctx)
	if err != nil {
		return o, err
	}
	for _, m := range modules {
		o.modules[m.Name] = m.Name
	}
	sockets, err := l.Sockets(ctx)
	if err != nil {
		return o, err
	}
	for _, s := range sockets {
		// The guest shows its own network namespace, and what its tables have.
		if key := s.key(); key != "" && s.Namespace == net && (s.tabled || s.Hidden) && s.State != tcpStates[tcpClose] {
			o.sockets[key] = s.Sock.String()
		}
	}
	return o, nil
}
