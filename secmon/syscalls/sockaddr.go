package syscalls

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Families of socket addresses (include/linux/socket.h).
const (
	familyUnix    = 1
	familyInet    = 2
	familyInet6   = 10
	familyNetlink = 16
	familyVsock   = 40
)

var le = binary.LittleEndian

// Address is a socket address. What its family does not have is empty.
type Address struct {
	Family uint16
	IP     netip.AddrPort // of AF_INET and AF_INET6
	Flow   uint32         // of AF_INET6
	Scope  uint32
	Path   string // of AF_UNIX; an abstract one begins with NUL
	CID    uint32 // of AF_VSOCK
	Port   uint32
	PID    uint32 // of AF_NETLINK
	Groups uint32
}

// ParseAddress reads a struct sockaddr. It gives false for one that is cut
// short.
func ParseAddress(raw string) (Address, bool) {
	var a Address
	if len(raw) < 2 {
		return a, false
	}
	var p [28]byte
	n := copy(p[:], raw)
	a.Family = le.Uint16(p[:])
	port := binary.BigEndian.Uint16(p[2:])
	switch a.Family {
	case familyInet:
		a.IP = netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[4:8])), port)
		return a, n >= 8
	case familyInet6:
		a.Flow, a.Scope = binary.BigEndian.Uint32(p[4:]), le.Uint32(p[24:])
		a.IP = netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[8:24])), port)
		return a, n >= 24
	case familyUnix:
		if a.Path = raw[2:]; !strings.HasPrefix(a.Path, "\x00") {
			a.Path, _, _ = strings.Cut(a.Path, "\x00")
		}
	case familyVsock:
		a.Port, a.CID = le.Uint32(p[4:]), le.Uint32(p[8:])
		return a, n >= 12
	case familyNetlink:
		a.PID, a.Groups = le.Uint32(p[4:]), le.Uint32(p[8:])
		return a, n >= 12
	}
	return a, true
}

// The numbers of vsock that have names (include/uapi/linux/vm_sockets.h).
var vsockCIDs = map[uint32]string{
	0: "VMADDR_CID_HYPERVISOR", 1: "VMADDR_CID_LOCAL", 2: "VMADDR_CID_HOST", 0xffff_ffff: "VMADDR_CID_ANY",
}

// String writes the address as strace does.
func (a Address) String() string {
	switch a.Family {
	case familyInet:
		return fmt.Sprintf(`{sa_family=AF_INET, sin_port=htons(%d), sin_addr=inet_addr("%s")}`, a.IP.Port(), a.IP.Addr())
	case familyInet6:
		s := fmt.Sprintf(`{sa_family=AF_INET6, sin6_port=htons(%d), sin6_flowinfo=htonl(%d), inet_pton(AF_INET6, "%s", &sin6_addr), sin6_scope_id=%d}`,
			a.IP.Port(), a.Flow, a.IP.Addr(), a.Scope)
		return s
	case familyUnix:
		switch {
		case a.Path == "":
			return "{sa_family=AF_UNIX}"
		case a.Path[0] == 0:
			return "{sa_family=AF_UNIX, sun_path=@" + Quote(a.Path[1:], len(a.Path)) + "}"
		}
		return "{sa_family=AF_UNIX, sun_path=" + Quote(a.Path, len(a.Path)) + "}"
	case familyVsock:
		cid, ok := vsockCIDs[a.CID]
		if !ok {
			cid = hex(uint64(a.CID))
		}
		return fmt.Sprintf("{sa_family=AF_VSOCK, svm_cid=%s, svm_port=%s}", cid, hex(uint64(a.Port)))
	case familyNetlink:
		return fmt.Sprintf("{sa_family=AF_NETLINK, nl_pid=%d, nl_groups=%08x}", int32(a.PID), a.Groups)
	}
	return "{sa_family=" + FlagNames(AMD64, "af", uint64(a.Family)) + "}"
}
