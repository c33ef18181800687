package introspect

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// SocketInfo is a socket of the guest, in any network namespace.
type SocketInfo struct {
	Proto  string `json:"proto"` // tcp, tcp6, udp, udp6, icmp, unix; netlink and others
	State  string `json:"state,omitempty"`
	Local  string `json:"local,omitempty"`  // address:port, or a path; @ for an abstract one
	Remote string `json:"remote,omitempty"` // address:port
	Inode  uint64 `json:"inode"`            // 0 where no process has it open
	UID    uint32 `json:"uid"`
	// Namespace is the number of the network namespace.
	Namespace uint32 `json:"net_ns,omitempty"`
	// Type is that of socket(2).
	Type string `json:"type,omitempty"`
	// Owners are the processes that have it open.
	Owners []Owner `json:"owners,omitempty"`
	Sock   Pointer `json:"sock"` // its struct sock
	// Hidden says that a process has it open and the tables that /proc/net shows
	// do not have it, though its state puts it there.
	Hidden bool `json:"hidden,omitempty"`

	family, protocol uint64
	tabled           bool // found in a table
}

// Owner is a descriptor of a process.
type Owner struct {
	PID  int    `json:"pid"`
	FD   int    `json:"fd"`
	Comm string `json:"comm"`
}

const (
	maxSockets = 1 << 17
	maxBuckets = 1 << 20
	maxOwners  = 64
)

// Address families and protocols (include/linux/socket.h, include/uapi/linux/in.h).
const (
	familyUnix, familyIPv4, familyIPv6 = 1, 2, 10

	protoICMP, protoTCP, protoUDP, protoICMPv6 = 1, 6, 17, 58

	tcpEstablished, tcpTimeWait, tcpClose, tcpListen, tcpNewSynRecv = 1, 6, 7, 10, 12
)

var tcpStates = []string{
	"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT",
	"CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV",
}

var socketTypes = map[uint64]string{1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket"}

// Sockets lists the guest's sockets: TCP, UDP and Unix ones that are in the tables
// of the kernel, which /proc/net shows, and what processes have open beside them.
// The error wraps [ErrIncomplete] when a table could not be walked.
func (l *Live) Sockets(ctx context.Context) (all []SocketInfo, err error) {
	q := l.ask(ctx)
	found := make(map[uint64]*SocketInfo) // by sock
	var errs []error
	whole := make(map[string]bool)
	for name, walk := range map[string]func(func(SocketInfo)){"tcp": q.tcp, "udp": q.udp, "unix": q.unix} {
		var table []SocketInfo
		q.again(func() {
			table = table[:0]
			walk(func(s SocketInfo) {
				if table = append(table, s); len(table) > maxSockets {
					q.fail(fmt.Errorf("%w: sockets without end", ErrWalk))
				}
			})
		})
		if err := q.take(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		whole[name] = true
		for _, s := range table {
			s.tabled = true
			if was := found[uint64(s.Sock)]; was != nil && was.key() != s.key() {
				// Since that was seen it has been replaced by what waits for its last
				// packets, and another socket has its memory.
				all = append(all, *was)
			}
			found[uint64(s.Sock)] = &s
		}
	}
	if len(whole) == 0 {
		return nil, fmt.Errorf("introspect: sockets: %w", errors.Join(errs...))
	}
	if err := q.owners(found, whole); err != nil {
		errs = append(errs, fmt.Errorf("owners: %w", err))
	}
	if len(errs) > 0 {
		err = fmt.Errorf("introspect: %w of sockets: %w", ErrIncomplete, errors.Join(errs...))
	}
	for _, s := range found {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b SocketInfo) int {
		return cmp.Or(strings.Compare(a.Proto, b.Proto), strings.Compare(a.Local, b.Local), strings.Compare(a.Remote, b.Remote), cmp.Compare(a.Sock, b.Sock))
	})
	return all, errors.Join(err, ctx.Err())
}

// bucketTable is a hash table of sockets: n heads, of each of which the first
// word of a chain is at an offset.
type bucketTable struct {
	at, n, size, first uint64
	typ, member        string // by which a socket hangs on its chain
	// end is what the chain of the first head ends with, each other's being one
	// more: half of hlist_nulls' mark. With unmarked any end will do.
	end      uint64
	unmarked bool
}

// listeningEnds is LISTENING_NULLS_BASE (include/net/inet_hashtables.h).
const listeningEnds = 1 << 29

// chainAttempts is how often a chain is walked again from its head.
const chainAttempts = 32

// sockets yields what a table holds. A socket can be moved to another chain, or
// be replaced by what waits for its last packets, while it is looked at: each is
// read at once, and the chain again if it was not what belongs there any more. What
// is put in another's place is put at the head.
func (q *question) sockets(t bucketTable, add func(SocketInfo)) {
	if t.n > maxBuckets || t.size == 0 || t.size > 64 || t.first+8 > t.size {
		q.fail(fmt.Errorf("%w: a hash table of %d buckets of %d bytes", ErrWalk, t.n, t.size))
	}
	var page [4096]byte
	per := uint64(len(page)) / max(t.size, 1)
	for i := uint64(0); i < t.n && q.err == nil; i += per {
		p := page[:t.size*min(t.n-i, per)]
		q.memory(p, t.at+i*t.size)
		for j := uint64(0); (j+1)*t.size <= uint64(len(p)) && q.err == nil; j++ {
			if head := le.Uint64(p[j*t.size+t.first:]); head != 0 && head&1 == 0 {
				for _, s := range q.bucket(t, i+j) {
					add(s)
				}
			}
		}
	}
}

func (q *question) bucket(t bucketTable, i uint64) (chain []SocketInfo) {
	at := t.at + i*t.size + t.first
	for n := 1; ; n++ {
		chain = chain[:0]
		stale := false
		head := q.word(at)
		end := q.hash(head, maxSockets, t.typ, t.member, func(o object) {
			// A connection begins with its sock.
			s, ok := q.socket(q.at("sock", o.addr))
			// What is closed is on its way out of the table.
			stale = stale || s.State == tcpStates[tcpClose]
			if ok {
				chain = append(chain, s)
			}
		})
		moved := !t.unmarked && end != (t.end+i)<<1|1 || q.word(at) != head
		if q.err == nil && !stale && !moved || n == chainAttempts || q.ctx.Err() != nil || q.left <= 0 {
			return chain
		}
		q.err = nil
	}
}

// tcp walks the table of connections and that of listeners.
func (q *question) tcp(add func(SocketInfo)) {
	info := q.variable("inet_hashinfo", "tcp_hashinfo")
	size, _ := q.fields.sizeOf("inet_ehash_bucket")
	q.sockets(bucketTable{
		at: info.uint("ehash"), n: info.uint("ehash_mask") + 1, size: size, typ: "sock", member: "__sk_common.skc_nulls_node",
	}, add)
	// Listeners hang on their bucket by another member since Linux 5.19.
	bucket := "nulls_head"
	t := bucketTable{at: info.uint("lhash2"), n: info.uint("lhash2_mask") + 1, typ: "sock", member: "__sk_common.skc_nulls_node", end: listeningEnds}
	if q.has("inet_connection_sock.icsk_listen_portaddr_node") {
		bucket, t.typ, t.member, t.unmarked = "head", "inet_connection_sock", "icsk_listen_portaddr_node", true
	}
	t.size, _ = q.fields.sizeOf("inet_listen_hashbucket")
	t.first = q.at("inet_listen_hashbucket", 0).field(bucket).off
	q.sockets(t, add)
}

// udp walks the table of UDP's.
func (q *question) udp(add func(SocketInfo)) {
	table := q.variable("udp_table", "udp_table")
	size, _ := q.fields.sizeOf("udp_hslot")
	q.sockets(bucketTable{
		at: table.uint("hash"), n: table.uint("mask") + 1, size: size, first: q.at("udp_hslot", 0).field("head").off,
		typ: "sock", member: "__sk_common.skc_node", unmarked: true,
	}, add)
}

// unixBuckets is how many heads the tables of Unix sockets have
// (include/net/af_unix.h).
const unixBuckets = 512

// unix walks the Unix sockets: of each network namespace since Linux 6.0, of all
// in one table before.
func (q *question) unix(add func(SocketInfo)) {
	t := bucketTable{n: unixBuckets, size: 8, typ: "sock", member: "__sk_common.skc_node", unmarked: true}
	if !q.has("net.unx.table.buckets") {
		t.at = q.symbol("unix_socket_table")
		q.sockets(t, add)
		return
	}
	for net := range q.list(q.symbol("net_namespace_list"), maxTasks, "net", "list") {
		t.at = net.uint("unx.table.buckets")
		q.sockets(t, add)
	}
}

// socket reads what a socket is. It is false for one that went meanwhile, and
// for kinds that are not listed.
func (q *question) socket(s object) (SocketInfo, bool) {
	info := SocketInfo{Sock: Pointer(s.addr)}
	common := s.in("__sk_common", "sock_common")
	info.family = common.uint("skc_family")
	state := common.uint("skc_state")
	if q.has("net.ns.inum") {
		if net := common.to("skc_net.net", "net"); !net.isNil() {
			info.Namespace = uint32(net.uint("ns.inum"))
		}
	}
	if q.err != nil || int(state) >= len(tcpStates) {
		q.take()
		return info, false
	}
	// What is not a whole socket has no more than that: a connection that waits
	// for its last packets to die, or that has not been accepted.
	part := state == tcpTimeWait || state == tcpNewSynRecv
	if part {
		info.protocol = protoTCP
	} else {
		info.protocol = s.uint("sk_protocol")
		info.Type = socketTypes[s.uint("sk_type")]
		info.UID = uint32(s.uint("sk_uid.val"))
		if socket := s.to("sk_socket", "socket"); !socket.isNil() {
			info.Inode = socket.holder("socket_alloc", "socket").uint("vfs_inode.i_ino")
		}
	}
	switch info.family {
	case familyUnix:
		info.Proto = "unix"
		q.unixSocket(q.at("unix_sock", s.addr), state, &info)
	case familyIPv4, familyIPv6:
		switch info.protocol {
		case protoICMP, protoICMPv6:
			info.Proto = "icmp"
		case protoTCP:
			info.Proto, info.State = "tcp", tcpStates[state]
		case protoUDP:
			info.Proto, info.State = "udp", map[bool]string{true: "ESTABLISHED", false: "UNCONN"}[state == tcpEstablished]
		default:
			return info, false
		}
		q.inetSocket(common, &info)
	default:
		name, ok := families[info.family]
		if !ok || part {
			return info, false
		}
		info.Proto = name
	}
	return info, q.take() == nil
}

// families are those of which no table is walked: their sockets are seen where a
// process has them open.
var families = map[uint64]string{16: "netlink", 17: "packet", 38: "alg", 40: "vsock", 44: "xdp"}

func (q *question) inetSocket(common object, info *SocketInfo) {
	local, remote := "skc_rcv_saddr", "skc_daddr"
	n := 4
	if info.family == familyIPv6 {
		local, remote, n = "skc_v6_rcv_saddr", "skc_v6_daddr", 16
		info.Proto += "6"
	}
	addr := func(member string) netip.Addr {
		var p [16]byte
		q.memory(p[:n], common.addr+common.field(member).off)
		a, _ := netip.AddrFromSlice(p[:n])
		return a
	}
	var port [2]byte
	binary.LittleEndian.PutUint16(port[:], uint16(common.uint("skc_dport")))
	info.Local = netip.AddrPortFrom(addr(local), uint16(common.uint("skc_num"))).String()
	info.Remote = netip.AddrPortFrom(addr(remote), binary.BigEndian.Uint16(port[:])).String()
}

// unixSocket reads the state and address of a Unix socket, which /proc/net/unix
// shows.
func (q *question) unixSocket(u object, state uint64, info *SocketInfo) {
	switch state {
	case tcpListen:
		info.State = "LISTEN"
	case tcpEstablished:
		info.State = "CONNECTED"
	default:
		info.State = "UNCONNECTED"
	}
	addr := u.to("addr", "unix_address")
	if q.err != nil || addr.isNil() {
		return
	}
	const maxAddress = 110 // sizeof(struct sockaddr_un)
	n := addr.uint("len")
	if n > maxAddress {
		q.fail(fmt.Errorf("%w: a socket's address of %d bytes", ErrWalk, n))
	}
	if n <= 2 || q.err != nil {
		return
	}
	p := make([]byte, n-2) // without the family
	q.memory(p, addr.addr+addr.field("name").off+2)
	if p[0] == 0 {
		info.Local = q.keep("@" + strings.ReplaceAll(string(p[1:]), "\x00", "@"))
	} else {
		info.Local = q.keep(text(p))
	}
}

// owners finds the descriptors of each socket, and the sockets that only
// descriptors lead to.
func (q *question) owners(found map[uint64]*SocketInfo, whole map[string]bool) error {
	var tasks []object
	q.again(func() {
		tasks = tasks[:0]
		q.tasks(func(t object) { tasks = append(tasks, t) })
	})
	if err := q.take(); err != nil {
		return err
	}
	type file struct {
		fd   int
		addr uint64
	}
	for _, t := range tasks {
		var files []file
		q.again(func() {
			files = files[:0]
			q.open(t, func(fd int, f object) { files = append(files, file{fd, f.addr}) })
		})
		q.take() // of a process that has gone
		pid, comm := t.int("tgid"), t.text("comm")
		for _, f := range files {
			at := q.sockOf(q.at("file", f.addr))
			if q.take() != nil || at == 0 {
				continue
			}
			s := found[at]
			if s == nil {
				info, ok := q.socket(q.at("sock", at))
				if !ok {
					continue
				}
				info.Hidden = q.belongs(info, whole)
				s = &info
				found[at] = s
			}
			if len(s.Owners) < maxOwners {
				s.Owners = append(s.Owners, Owner{pid, f.fd, comm})
			}
		}
	}
	return q.take()
}

// sockOf is the sock behind an open file, 0 if it is none.
func (q *question) sockOf(f object) uint64 {
	if f.to("f_inode", "inode").uint("i_mode")&0o170000 != 0o140000 || q.err != nil {
		return 0
	}
	return f.to("private_data", "socket").uint("sk")
}

// belongs says whether a socket that is in no table should be in one, and the
// walk of it went to its end. One that is neither bound nor connected is in none.
func (q *question) belongs(s SocketInfo, whole map[string]bool) bool {
	again, ok := q.socket(q.at("sock", uint64(s.Sock)))
	if !ok || again.State != s.State || again.Local != s.Local {
		return false // it has just been made, or is about to go
	}
	switch s.Proto {
	case "unix":
		return whole["unix"] && !q.listedSocket(q.unix, s)
	case "tcp", "tcp6":
		return whole["tcp"] && s.State != tcpStates[tcpClose] && !q.listedSocket(q.tcp, s)
	case "udp", "udp6":
		return whole["udp"] && !strings.HasSuffix(s.Local, ":"+strconv.Itoa(0)) && !q.listedSocket(q.udp, s)
	}
	return false
}

// listedSocket looks again for a socket in a table; one that cannot be walked
// proves nothing.
func (q *question) listedSocket(walk func(func(SocketInfo)), s SocketInfo) bool {
	found := false
	q.again(func() {
		found = false
		walk(func(o SocketInfo) { found = found || o.Sock == s.Sock })
	})
	return q.take() != nil || found
}
