// Package ladder decides for one remote gateway which lane new streams take, and
// when the TLS lane is dialed beside QUIC and let go again. It is a pure state
// machine: the time and what the lanes are doing are arguments; gateway/tunnel runs
// it.
//
//   - QUIC is first. TLS is dialed beside it when it has not come up Stagger after
//     the start, and at once when it dies or is doubted.
//   - New streams go to QUIC whenever a link of it is up and trusted. One is not
//     trusted for a while when QUIC has died more than once lately: a path that takes
//     a handshake and loses what follows must not cost every call a reset. The time
//     doubles and is bounded, so that a path that has healed is used again.
//   - Streams stay where they were opened. The TLS link that is not needed any more
//     is let go Settle after QUIC is trusted again, and finishes its streams.
package ladder
