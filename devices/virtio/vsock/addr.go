package vsock

import (
	"net"
	"strconv"
)

// Addr is one end of a connection.
type Addr struct {
	CID  uint32 // 2 is the host, 3 and above are guests
	Port uint32
}

var _ net.Addr = Addr{}

// Network returns "vsock".
func (a Addr) Network() string { return "vsock" }

// String returns "CID:port", both decimal.
func (a Addr) String() string {
	return strconv.FormatUint(uint64(a.CID), 10) + ":" + strconv.FormatUint(uint64(a.Port), 10)
}
