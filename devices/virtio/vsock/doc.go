// Package vsock is the virtio socket device (virtio 1.2 §5.10): stream connections
// between programs on the host and programs in one guest, without a network.
//
// A program in the guest uses AF_VSOCK: it connects to CID 2, or listens and is
// connected to under the CID of [Config]. On the host there are two ways in.
//
// In this process, [Device.Dial] opens a connection to a port of the guest and
// [Device.Listen] takes the connections that the guest makes to a port of CID 2.
//
// For other processes the device keeps Unix stream sockets in [Config].Dir, with
// the conversation that users of Firecracker know:
//
//   - Host to guest: connect to Dir/vsock.sock, write "CONNECT <port>\n" and read
//     "OK <host port>\n". From then on the socket is the connection. A refusal is
//     answered with "ERROR <reason>\n", after which the socket is closed.
//   - Guest to host: when nothing in this process listens on port P, the device
//     connects to Dir/port-P.sock. Whoever wants those connections listens there;
//     without a listener the guest's connect fails with ECONNRESET, as it does for
//     any closed port.
//
// vsock.sock has mode 0600 and is removed by [Device.Close]; one that a killed
// process left behind is replaced, one that is in use is an error.
//
// # Life of a connection
//
//	Dial:   REQUEST ->           Listen:  <- REQUEST
//	        <- RESPONSE | RST             RESPONSE | RST ->
//	both:   RW <->, CREDIT_UPDATE <->, CREDIT_REQUEST <->
//	end:    SHUTDOWN(send|receive) from one side, RST from the other
//
// CloseWrite sends SHUTDOWN(send) once everything written before is out; Close
// sends SHUTDOWN(both) and gives the guest [closeTimeout] to take the rest.
//
// # Who sees it
//
// [Config].Watcher is shown every packet, both ways, and can have a connection reset
// before a packet of it goes on.
//
// # What a guest can cost
//
// Per connection the device holds at most [bufferSize] bytes from the guest (it
// advertises no more, and resets a connection that sends more) and as many to it,
// and there are at most [Config].MaxConns connections. Packets go to the guest in
// turn, one per connection; a host program that does not read stalls only its own
// connection. A packet that makes no sense is counted and at most resets the
// connection that it names. A driver that resets the device loses all connections
// and may start over.
package vsock
