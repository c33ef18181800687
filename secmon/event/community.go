package event

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
)

// protocols are those of IP that have ports, by their numbers.
var protocols = map[string]byte{"tcp": 6, "udp": 17, "sctp": 132}

// CommunityID is the Community ID, version 1 with the seed 0, of a flow: the number by which
// other tools of the field know it (corelight/community-id-spec). It is "" for flows
// whose ends are not known, and for those of other protocols than TCP, UDP and SCTP.
func CommunityID(transport string, a, b netip.AddrPort) string {
	protocol := protocols[transport]
	if protocol == 0 || FlowID(transport, a, b) == 0 {
		return ""
	}
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	if c := x.Compare(y); c > 0 || c == 0 && a.Port() > b.Port() {
		a, b, x, y = b, a, y, x
	}
	buf := make([]byte, 2, 40) // the seed
	buf = append(append(buf, x.AsSlice()...), y.AsSlice()...)
	buf = append(buf, protocol, 0)
	buf = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(buf, a.Port()), b.Port())
	sum := sha1.Sum(buf)
	return "1:" + base64.StdEncoding.EncodeToString(sum[:])
}
