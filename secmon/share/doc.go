// Package share sees what virtual machines say to each other through files that they share.
//
// A [Monitor] is told by the virtio-fs devices of VMs what each of them reads and writes. Files
// are known by the host's numbers, so that one file is one whatever directory, tag and name a
// VM has it by. What one VM has written and another reads is a message: an event that
// says who wrote, who reads, which bytes of which file. Each byte that was written is told once
// to each reader. Rules can ask for the writes and reads themselves.
//
// Nothing is trapped for that. Writes through a mapping, by io_uring or by a copy inside the
// kernel are seen as any other, once they leave the guest's cache; so are reads, unless
// the guest has the page already.
package share
