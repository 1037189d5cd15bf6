/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/trace/define_trace.h; tracepoint.h has done it all. */
