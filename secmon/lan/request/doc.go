// Package request decides which requests of HTTP/1 or DNS pass.
//
// What one program reads as one request and another as two is how requests are
// smuggled past whoever decides. So nothing passes here that can be read in more than
// one way: two lengths, a length beside chunks, folded lines, bare CR or LF, names of
// fields with blanks, paths that are not in their normal form. Each request of a
// connection is decided, before its receiver has a byte of it.
//
// Sources: RFC 9110 and 9112 (HTTP), 3986 (URI), 1035 (DNS).
package request
