package virtqtest

import (
	"math"

	"warder/devices/guestmem"
)

// Malformed is each way in which a driver can break the rules of a ring (VIRTIO 1.2,
// section 2.7), by name. Each makes something available that no device may take; the
// device has not looked yet when it returns.
var Malformed = map[string]func(r *Ring){
	"head outside":   func(r *Ring) { r.PutAvail(r.Size) },
	"head far away":  func(r *Ring) { r.PutAvail(math.MaxUint16) },
	"too many heads": func(r *Ring) { allHeads(r); r.PutAvailIdx(r.avail + r.Size + 1) },
	"index back":     func(r *Ring) { allHeads(r); r.PutAvailIdx(r.avail - 1) },

	"next outside":       one(func(r *Ring, d *Desc) { d.Flags, d.Next = Next, r.Size }),
	"next far away":      one(func(_ *Ring, d *Desc) { d.Flags, d.Next = Next, math.MaxUint16 }),
	"loop of one":        one(func(_ *Ring, d *Desc) { d.Flags, d.Next = Next, 0 }),
	"loop of room":       one(func(_ *Ring, d *Desc) { d.Flags, d.Next = Next|Write, 0 }),
	"unknown flag":       one(func(_ *Ring, d *Desc) { d.Flags = 8 }),
	"all flags":          one(func(_ *Ring, d *Desc) { d.Flags = math.MaxUint16 }),
	"buffer below RAM":   one(func(_ *Ring, d *Desc) { d.Addr = Base - 1 }),
	"buffer across end":  one(func(_ *Ring, d *Desc) { d.Addr, d.Len = Base+MemorySize-1, 2 }),
	"buffer wraps":       one(func(_ *Ring, d *Desc) { d.Addr, d.Len = math.MaxUint64-1, math.MaxUint32 }),
	"buffer too long":    one(func(_ *Ring, d *Desc) { d.Len = math.MaxUint32 }),
	"room too long":      one(func(_ *Ring, d *Desc) { d.Len, d.Flags = math.MaxUint32, Write }),
	"nothing at nowhere": one(func(_ *Ring, d *Desc) { d.Addr, d.Len = math.MaxUint64, 0 }),

	"loop of two": chained(Desc{Flags: Next, Next: 1}, Desc{Flags: Next, Next: 0}),
	"readable after writable": chained(
		Desc{Flags: Write | Next, Next: 1}, Desc{}),

	"indirect of half a descriptor":  one(func(_ *Ring, d *Desc) { d.Len, d.Flags = 24, Indirect }),
	"indirect of nothing":            one(func(_ *Ring, d *Desc) { d.Len, d.Flags = 0, Indirect }),
	"indirect larger than the queue": one(func(r *Ring, d *Desc) { d.Len, d.Flags = descSize*(uint32(r.Size)+1), Indirect }),
	"indirect below RAM":             one(func(_ *Ring, d *Desc) { d.Addr, d.Len, d.Flags = Base-descSize, 2*descSize, Indirect }),
	"indirect wraps":                 one(func(_ *Ring, d *Desc) { d.Addr, d.Len, d.Flags = math.MaxUint64-15, 2*descSize, Indirect }),
	"indirect that goes on":          one(func(_ *Ring, d *Desc) { d.Len, d.Flags, d.Next = descSize, Indirect|Next, 1 }),

	"indirect in indirect":            indirect(Desc{Len: descSize, Flags: Indirect}),
	"next outside the indirect table": indirect(Desc{Len: 1, Flags: Next, Next: 1}),
	"loop in the indirect table":      indirect(Desc{Len: 1, Flags: Next, Next: 0}),
	"buffer outside RAM by indirect":  indirect(Desc{Len: math.MaxUint32}),
}

// What is not what a rule is about is good: were the rule not kept, the device would
// take what it finds.

// goodTable is a table of n descriptors, each a chain by itself.
func goodTable(r *Ring, n uint16) guestmem.Addr {
	table := r.Alloc(descSize * int(n))
	for i := range n {
		r.PutDesc(table, i, Desc{Addr: r.Alloc(descSize), Len: descSize})
	}
	return table
}

// allHeads has every place of the ring hold a good head, without making one
// available.
func allHeads(r *Ring) {
	for i := range r.Size {
		r.PutDesc(r.Desc(), i, Desc{Addr: r.Alloc(descSize), Len: descSize})
		must(r.Mem.StoreUint16(r.Avail()+4+2*guestmem.Addr(i), i))
	}
}

// one makes a chain available whose first descriptor is a good one, also of an
// indirect table, as f changes it.
func one(f func(*Ring, *Desc)) func(*Ring) {
	return func(r *Ring) {
		allHeads(r)
		d := Desc{Addr: goodTable(r, r.Size+1), Len: descSize}
		f(r, &d)
		r.PutDesc(r.Desc(), 0, d)
		r.PutAvail(0)
	}
}

// chained makes descriptors available, the first of which is the head. Their
// buffers are good.
func chained(descs ...Desc) func(*Ring) {
	return func(r *Ring) {
		for i, d := range descs {
			d.Addr, d.Len = r.Alloc(descSize), descSize
			r.PutDesc(r.Desc(), uint16(i), d)
		}
		r.PutAvail(0)
	}
}

// indirect makes a chain available that is d in a table of its own. What d refers to
// is a good table again.
func indirect(d Desc) func(*Ring) {
	return func(r *Ring) {
		table := goodTable(r, 2)
		d.Addr = goodTable(r, 1)
		r.PutDesc(table, 0, d)
		r.PutDesc(r.Desc(), 0, Desc{Addr: table, Len: descSize, Flags: Indirect})
		r.PutAvail(0)
	}
}
