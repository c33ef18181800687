package net

import (
	"context"
	"encoding/binary"
	"fmt"

	"warder/devices/virtio/virtq"
)

// Commands of the control queue, section 5.1.6.5: a class and a number in it.
const (
	classRx             = 0
	rxPromiscuous       = 0
	rxAllMulticast      = 1
	rxAllUnicast        = 2
	rxNoMulticast       = 3
	rxNoUnicast         = 4
	rxNoBroadcast       = 5
	classMAC            = 1
	macTableSet         = 0
	macAddrSet          = 1
	classAnnounce       = 3
	announceAck         = 0
	classMultiqueue     = 4
	pairsSet            = 0
	classGuestOffloads  = 5
	guestOffloadsSet    = 0
	commandOK           = 0
	commandErr          = 1
	commandHeader       = 2
	bytesOfMAC          = len(MAC{})
	guestOffloadsLength = 8
)

// A control serves the commands of one driver.
type control struct {
	*Device
	features uint64
	usable   int // pairs that the driver may have set up
}

// serve serves the control queue.
func (d *control) serve(ctx context.Context, q *virtq.Queue) error {
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		var head [commandHeader]byte
		if n, err := c.Reader.Read(head[:]); n < commandHeader || err != nil {
			return fmt.Errorf("%w: command of %d bytes", virtq.ErrMalformed, n)
		}
		answer := uint8(commandErr)
		if d.command(head[0], head[1], c.Reader) {
			answer = commandOK
		}
		if _, err := c.Writer.Write([]byte{answer}); err != nil {
			return fmt.Errorf("%w: command without room for an answer", virtq.ErrMalformed)
		}
		if err := q.Push(c, 1); err != nil {
			return err
		}
	}
}

// command carries a command out, or reports that it is none.
func (d *control) command(class, number uint8, r *virtq.Reader) bool {
	switch {
	case class == classRx && d.features&featureRx != 0:
		var on [1]byte
		n, _ := r.Read(on[:])
		return n == 1 && (number < rxAllUnicast || d.features&featureRxExtra != 0) &&
			d.setFilter(func(f *filter) bool { return f.mode(number, on[0] != 0) })
	case class == classMAC && number == macTableSet && d.features&featureRx != 0:
		return d.setFilter(func(f *filter) (ok bool) {
			if f.unicast, f.moreUnicast, ok = readAddresses(r); !ok {
				return false
			}
			f.multicast, f.moreMulticast, ok = readAddresses(r)
			return ok
		})
	case class == classMAC && number == macAddrSet && d.features&featureSetMAC != 0:
		return d.setFilter(func(f *filter) bool {
			n, _ := r.Read(f.own[:])
			return n == bytesOfMAC && f.own.Unicast()
		})
	case class == classAnnounce && number == announceAck && d.features&featureAnnounce != 0:
		d.mu.Lock()
		d.announce = false
		d.mu.Unlock()
		d.configChanged()
		return true
	case class == classMultiqueue && number == pairsSet && d.features&featureMultiqueue != 0:
		return d.setPairs(r)
	case class == classGuestOffloads && number == guestOffloadsSet && d.features&featureGuestOffloads != 0:
		var bits [guestOffloadsLength]byte
		n, _ := r.Read(bits[:])
		set := binary.LittleEndian.Uint64(bits[:])
		var may uint64
		for _, g := range guestOffloads {
			may |= g.feature & d.features
		}
		if n < len(bits) || set&^may != 0 {
			return false
		}
		d.setTakes(takes(set))
		return true
	}
	return false
}

// setFilter replaces the filter by a changed copy, unless change fails.
func (d *Device) setFilter(change func(*filter) bool) bool {
	f := *d.filter.Load()
	if !change(&f) {
		return false
	}
	d.filter.Store(&f)
	return true
}

// readAddresses reads a list of addresses: their number, 32 bits, then the addresses.
// A list of more than maxAddresses is passed over.
func readAddresses(r *virtq.Reader) (list []MAC, more, ok bool) {
	var count [4]byte
	if n, _ := r.Read(count[:]); n < len(count) {
		return nil, false, false
	}
	n := uint64(binary.LittleEndian.Uint32(count[:]))
	if n*uint64(bytesOfMAC) > uint64(r.Len()) {
		return nil, false, false
	}
	if n > maxAddresses {
		return nil, true, r.Skip(int(n)*bytesOfMAC) == nil
	}
	list = make([]MAC, n)
	for i := range list {
		if _, err := r.Read(list[i][:]); err != nil {
			return nil, false, false
		}
	}
	return list, false, true
}

// setPairs takes as many queue pairs into use as the driver says.
func (d *control) setPairs(r *virtq.Reader) bool {
	var pairs [2]byte
	n, _ := r.Read(pairs[:])
	want := int(binary.LittleEndian.Uint16(pairs[:]))
	if n < len(pairs) || want < 1 || want > d.usable {
		return false
	}
	d.pairs.Store(int32(want))
	d.flush(want)
	return true
}
