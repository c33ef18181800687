package introspect

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/btf"
)

// SocketFS is the file system type of sockets.
const SocketFS = "sockfs"

// ErrNoSocket is the error for a file descriptor that is open and no socket.
var ErrNoSocket = errors.New("not a socket")

// socketLayout says where what a socket is made of lies.
type socketLayout struct {
	fileOps, filePrivate field

	socketType, socketSock field

	family, localPort, remotePort, local4, remote4, local6, remote6, protocol field
}

func newSocketLayout(spec *btf.Spec) socketLayout {
	var l socketLayout
	for _, w := range []struct {
		to        *field
		typ, path string
	}{
		{&l.fileOps, "file", "f_op"},
		{&l.filePrivate, "file", "private_data"},
		{&l.socketType, "socket", "type"},
		{&l.socketSock, "socket", "sk"},
		{&l.family, "sock", "__sk_common.skc_family"},
		{&l.localPort, "sock", "__sk_common.skc_num"},
		{&l.remotePort, "sock", "__sk_common.skc_dport"},
		{&l.local4, "sock", "__sk_common.skc_rcv_saddr"},
		{&l.remote4, "sock", "__sk_common.skc_daddr"},
		{&l.local6, "sock", "__sk_common.skc_v6_rcv_saddr"},
		{&l.remote6, "sock", "__sk_common.skc_v6_daddr"},
		{&l.protocol, "sock", "sk_protocol"},
	} {
		// A kernel without networking, or without IPv6, has none of them; one
		// before 5.6 has the protocol in a bit field.
		*w.to, _ = fieldOf(spec, w.typ, w.path)
	}
	return l
}

// Socket is what a socket of a guest is and where it leads.
type Socket struct {
	Family        uint16 // AF_INET, ...
	Type          uint16 // SOCK_STREAM, ...
	Protocol      uint16 // IPPROTO_TCP, ...; 0 where not known
	Local, Remote netip.AddrPort
}

// Families of which addresses are read: include/linux/socket.h.
const (
	familyInet  = 2
	familyInet6 = 10
)

// Socket reads what one of the task's file descriptors is as a socket. The error
// wraps [ErrNotOpen], [ErrNoSocket], [ErrNotResident] or [ErrWalk].
func (t *Task) Socket(fd int32) (Socket, error) {
	r := t.reader()
	s, err := r.socket(t.addr, fd)
	if err != nil {
		return Socket{}, fmt.Errorf("fd %d: %w", fd, err)
	}
	return s, nil
}

func (r *reader) socket(task uint64, fd int32) (s Socket, err error) {
	l := &r.layout.socket
	ops, err := r.Addr("socket_file_ops")
	if err != nil {
		return s, err
	}
	file, err := r.file(task, fd)
	if err != nil {
		return s, err
	}
	if op, err := r.pointer(file, l.fileOps); err != nil || op != ops {
		return s, errors.Join(ErrNoSocket, err)
	}
	sock, err := r.follow(file, l.filePrivate)
	if err != nil {
		return s, err
	}
	sk, err := r.follow(sock, l.socketSock)
	if err != nil {
		return s, err
	}
	get := func(base uint64, f field) uint64 {
		if err != nil || f.size == 0 {
			return 0
		}
		var v uint64
		v, err = r.uint(base, f)
		return v
	}
	s.Type, s.Family, s.Protocol = uint16(get(sock, l.socketType)), uint16(get(sk, l.family)), uint16(get(sk, l.protocol))
	local, remote := uint16(get(sk, l.localPort)), uint16(get(sk, l.remotePort))
	remote = remote>>8 | remote<<8 // network order
	if err != nil {
		return s, err
	}
	if s.Local, err = r.address(sk, s.Family, l.local4, l.local6, local); err != nil {
		return s, err
	}
	s.Remote, err = r.address(sk, s.Family, l.remote4, l.remote6, remote)
	return s, err
}

func (r *reader) address(sk uint64, family uint16, four, six field, port uint16) (netip.AddrPort, error) {
	switch {
	case family == familyInet && four.size == 4:
		var p [4]byte
		err := r.read(p[:], sk+four.off)
		return netip.AddrPortFrom(netip.AddrFrom4(p), port), err
	case family == familyInet6 && six.size == 16:
		var p [16]byte
		err := r.read(p[:], sk+six.off)
		return netip.AddrPortFrom(netip.AddrFrom16(p), port), err
	}
	return netip.AddrPort{}, nil
}
