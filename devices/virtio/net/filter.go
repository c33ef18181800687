package net

import (
	"bytes"
	"fmt"
	"slices"
)

// MAC is the address of an Ethernet interface.
type MAC [6]byte

// String is the address as people write it: 02:00:00:00:00:01.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Unicast reports whether m is an address that one interface can have.
func (m MAC) Unicast() bool { return m[0]&1 == 0 && m != MAC{} }

// Unset reports whether m is the zero MAC.
func (m MAC) Unset() bool { return m == MAC{} }

var broadcast = bytes.Repeat([]byte{0xff}, len(MAC{}))

// maxAddresses bounds each of a filter's lists. A driver that wants more of a kind
// gets all of it (section 5.1.6.5.2: filtering is by best effort).
const maxAddresses = 64

// filter is which frames the driver wants, by their destination (section 5.1.6.5.1).
// It is replaced as a whole.
type filter struct {
	own MAC

	promiscuous                                              bool
	allMulticast, allUnicast, noMulticast, noUnicast, noCast bool

	unicast, multicast         []MAC
	moreUnicast, moreMulticast bool // lists that were too long
}

// passes reports whether the driver wants the frame that begins with head.
func (f *filter) passes(head []byte) bool {
	switch {
	case f.promiscuous:
		return true
	case len(head) < etherHeader:
		return false
	}
	to := MAC(head[:len(MAC{})])
	switch {
	case to[0]&1 == 0:
		return !f.noUnicast && (to == f.own || f.allUnicast || f.moreUnicast || slices.Contains(f.unicast, to))
	case bytes.Equal(to[:], broadcast):
		return !f.noCast
	}
	return !f.noMulticast && (f.allMulticast || f.moreMulticast || slices.Contains(f.multicast, to))
}

// mode sets what the driver says by a command of the class RX with a byte.
func (f *filter) mode(command uint8, on bool) bool {
	switch command {
	case rxPromiscuous:
		f.promiscuous = on
	case rxAllMulticast:
		f.allMulticast = on
	case rxAllUnicast:
		f.allUnicast = on
	case rxNoMulticast:
		f.noMulticast = on
	case rxNoUnicast:
		f.noUnicast = on
	case rxNoBroadcast:
		f.noCast = on
	default:
		return false
	}
	return true
}
