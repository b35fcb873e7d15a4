// Package handover starts the process that takes this one's place, hands it what this
// one holds open, and changes over when it is ready.
//
// The two speak on a socket: the predecessor says what it hands over; the successor
// says that it is ready, or why it cannot be; then the predecessor says go, and the
// successor that it serves. Until that word the predecessor has given nothing up: a
// successor that fails, ends or is too late is ended, and nothing has happened. When
// the predecessor ends first, its successor takes what it was handed as its own.
//
// After that the two are strangers but for a [Pulse]: whoever holds its far end hears
// how the other fares, and that it has ended, however it ended.
//
// github.com/cloudflare/tableflip does much of this, and was considered: it starts no
// successor while a predecessor is alive, and here several generations are, for as long
// as their streams last; and it changes over when the successor is ready, while here the
// kernel has to be told in between where packets go.
package handover
