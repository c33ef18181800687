package mem

import (
	"encoding/binary"
	"errors"

	"warder/devices/guestmem"
)

// Requests and responses, section 5.15.6.
const (
	requestPlug      = 0 // VIRTIO_MEM_REQ_PLUG
	requestUnplug    = 1 // VIRTIO_MEM_REQ_UNPLUG
	requestUnplugAll = 2 // VIRTIO_MEM_REQ_UNPLUG_ALL
	requestState     = 3 // VIRTIO_MEM_REQ_STATE

	statePlugged   = 0 // VIRTIO_MEM_STATE_PLUGGED
	stateUnplugged = 1 // VIRTIO_MEM_STATE_UNPLUGGED
	stateMixed     = 2 // VIRTIO_MEM_STATE_MIXED
)

type response uint16

const (
	ack    response = 0 // VIRTIO_MEM_RESP_ACK
	nack   response = 1 // VIRTIO_MEM_RESP_NACK: that is more than the host asks for
	busy   response = 2 // VIRTIO_MEM_RESP_BUSY: not now
	refuse response = 3 // VIRTIO_MEM_RESP_ERROR: a request that makes no sense
)

// requestSize is the length of struct virtio_mem_req.
const requestSize = 24

// request is a request about blocks, not checked yet.
type request struct {
	kind   uint16
	addr   uint64
	blocks uint16
}

func parse(b []byte) request {
	return request{
		kind:   binary.LittleEndian.Uint16(b),
		addr:   binary.LittleEndian.Uint64(b[8:]),
		blocks: binary.LittleEndian.Uint16(b[16:]),
	}
}

// handle carries r out. An error is one of the host's. The caller holds mu.
func (d *Device) handle(r request) (response, uint16, error) {
	if r.kind == requestUnplugAll {
		resp, err := d.unplugAll()
		return resp, 0, err
	}
	first, ok := d.first(r)
	if !ok {
		return refuse, 0, nil
	}
	blocks := d.plugged[first : first+uint64(r.blocks)]
	n := 0
	for _, there := range blocks {
		if there {
			n++
		}
	}
	switch r.kind {
	case requestState:
		switch n {
		case len(blocks):
			return ack, statePlugged, nil
		case 0:
			return ack, stateUnplugged, nil
		}
		return ack, stateMixed, nil
	case requestPlug:
		if n != 0 {
			return refuse, 0, nil
		}
		resp, err := d.plug(first, uint64(len(blocks)))
		return resp, 0, err
	case requestUnplug:
		if n != len(blocks) {
			return refuse, 0, nil
		}
		resp, err := d.unplug(first, uint64(len(blocks)))
		return resp, 0, err
	}
	return refuse, 0, nil
}

// first is the first block that r is about, if they are all of this region.
func (d *Device) first(r request) (uint64, bool) {
	off := r.addr - uint64(d.cfg.Base)
	i := off / d.cfg.Block
	all := uint64(len(d.plugged))
	return i, r.addr >= uint64(d.cfg.Base) && off%d.cfg.Block == 0 && r.blocks > 0 &&
		i < all && uint64(r.blocks) <= all-i
}

func (d *Device) plug(first, n uint64) (response, error) {
	if (d.count+n)*d.cfg.Block > d.requested {
		return nack, nil
	}
	if err := d.cfg.Memory.Plug(d.at(first), n*d.cfg.Block); err != nil {
		return busy, err
	}
	d.mark(first, n, true)
	d.count += n
	return ack, nil
}

func (d *Device) unplug(first, n uint64) (response, error) {
	err := d.cfg.Memory.Unplug(d.at(first), n*d.cfg.Block)
	if errors.Is(err, guestmem.ErrKept) {
		return busy, nil
	}
	if err != nil {
		return busy, err
	}
	d.mark(first, n, false)
	d.count -= n
	return ack, nil
}

// unplugAll unplugs run by run, as far as it goes.
func (d *Device) unplugAll() (response, error) {
	result := ack
	for i := uint64(0); i < uint64(len(d.plugged)); {
		n := uint64(0)
		for i+n < uint64(len(d.plugged)) && d.plugged[i+n] {
			n++
		}
		if n > 0 {
			resp, err := d.unplug(i, n)
			if err != nil {
				return resp, err
			}
			if resp != ack {
				result = resp
			}
		}
		i += n + 1
	}
	return result, nil
}

func (d *Device) at(block uint64) guestmem.Addr {
	return d.cfg.Base + guestmem.Addr(block*d.cfg.Block)
}

func (d *Device) mark(first, n uint64, there bool) {
	for i := range d.plugged[first : first+n] {
		d.plugged[first+uint64(i)] = there
	}
}
