// Package flow keeps the table of conversations between machines.
//
// The table has room for a fixed number of flows, all of it allocated at once. When
// it is full, the port that opened most of those in the same part of the table
// gives up the one that was quiet longest: a machine that opens flows without end
// pushes out its own. A flow that is kept goes only before others of its kind. Hashes are keyed, so that nobody can choose flows that
// collide. [Part] is what is locked, a sixteenth of the table.
//
//	            SYN            SYN+ACK          ACK
//	(nothing) ------> Opening --------> Answered ---> Established
//	     |  any other segment                             |  FIN of both ends
//	     +------------------------> Established            +-------------------> Closed
//	                                                      |  RST
//	                                                      +-------------------> Reset
package flow
