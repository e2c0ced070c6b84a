"""Lines of the kernel log that are seldom seen, and the rule that has each."""

from __future__ import annotations

SELDOM = {
    "kernel:amd.athub": (
        "amdgpu 0000:c6:00.0: uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT)"
    ),
    "kernel:amd.poison": "amdgpu 0000:c6:00.0: amdgpu: Poison is consumed by client 10",
    "kernel:amd.aca": (
        "amdgpu 0000:c6:00.0: {2}[Hardware Error]: Accelerator Check Architecture events logged"
    ),
    "kernel:amd.bad_page_limit": "amdgpu 0000:c6:00.0: RAS records:130 exceed threshold:128",
    "kernel:amd.ras_table": "amdgpu 0000:c6:00.0: amdgpu: Failed to write EEPROM table header:-5",
    "kernel:amd.smu": "amdgpu 0000:c6:00.0: amdgpu: Failed to export SMU metrics table!",
    "kernel:amd.hung": "amdgpu: Failed to evict process queues",
    "kernel:amd.init_failed": (
        "[drm:amdgpu_device_init] *ERROR* hw_init of IP block <psp> failed -22"
    ),
    "kernel:amd.driver_error": "[drm:amdgpu_x [amdgpu]] *ERROR* something",
    "kernel:nvidia.link_training": (
        "NVRM: knvlinkDiscoverPostRxDetLinks_GH100: Getting peer1's postRxDetLinkMask failed!"
    ),
    "kernel:intel.init_failed": "i915 0000:4d:00.0: [drm] GuC initialization failed -5",
    "kernel:intel.iommu": "i915: IO: IOMMU catastrophic error",
    "kernel:intel.cat_error": "xe 0000:4d:00.0: [drm] Engine memory CAT error [3]: class=rcs",
    "kernel:intel.page_fault": "xe 0000:4d:00.0: [drm] Fault response: Unsuccessful -EINVAL",
    "kernel:intel.gsc": "mei_gsc xe.mei-gsc.1: id exceeded 256",
    "kernel:intel.driver_error": "i915 0000:4d:00.0: [drm] *ERROR* something",
    "kernel:gaudi.reset_begin": "habanalabs hl3: Going to reset device",
    "kernel:gaudi.reset_done": "habanalabs hl3: Successfully finished resetting the device",
    "kernel:gaudi.uncorrectable": "habanalabs hl3: ECC event, HBM DERR",
    "kernel:gaudi.correctable": "habanalabs hl3: ECC event, SERR",
    "kernel:ascend.vm_fault": "[ascend] [ERROR] [devmm] Vm fault failed. (devid=3)",
    "kernel:ascend.exception": (
        "[ascend][ERROR][devdrv] Get mntn message. (exception_id=0xa6000001)"
    ),
    "kernel:ascend.no_answer": "[ascend] [icm] Wait event timeout (count=3)",
    "kernel:kunlun.abnormal": "RuntimeError: (713) Device abnormal",
    "kernel:kunlun.no_device": "Initialize default context for dev -1 fail",
    "kernel:host.sysrq_crash": "sysrq: SysRq : Trigger a crash",
    "kernel:host.file_max": "VFS: file-max limit 71 reached",
    "kernel:host.memory_page": "Memory failure: 0x71: recovery action for dirty LRU page: Failed",
    "kernel:host.memory_isolated": (
        "RAS: In fma_memory_offline_notify, ready to call notify chain to isolate page: 0x71"
    ),
    "kernel:host.mce_uncorrected": "[Hardware Error]: event severity: fatal",
    "kernel:host.mce_raw": "mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 5: be",
    "kernel:host.mce_logged": "mce: [Hardware Error]: Machine check events logged",
    "kernel:host.too_hot": "thermal thermal_zone3: critical temperature reached, shutting down",
    "kernel:pcie.fatal": (
        "pcieport 0000:4a:01.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=x"
    ),
    "kernel:pcie.recovery_failed": "pcieport 0000:4a:01.0: AER: device recovery failed",
    "kernel:pcie.no_recovery": (
        "mlx5_core 0000:4b:00.0: AER: can't recover (no error_detected callback)"
    ),
    "kernel:pcie.narrow": (
        "mlx5_core 0000:4b:00.0: 63.008 Gb/s available PCIe bandwidth, limited by 8.0 GT/s x8"
    ),
    "kernel:job.crash": "bash[71]: segfault at 0 ip 00 sp 00 error 4 in libc.so.6[7f00+1]",
    "kernel:disk.nvme_gone": "nvme nvme3: Device not ready; aborting reset, CSTS=0x1",
    "kernel:disk.nvme_timeout": "nvme nvme3: controller is down; will reset: CSTS=0xffffffff",
    "kernel:disk.scsi": "sd 3:0:0:0: [sdc] tag#71 Sense Key : Medium Error [current]",
    "kernel:fs.read_only": "EXT4-fs (sdc1): Remounting filesystem read-only",
    "kernel:nic.module_hot": (
        "mlx5_core 0000:4b:00.0: Port module event[error]: module 0, Cable error, High Temperature"
    ),
    "kernel:nic.module": (
        "mlx5_core 0000:4b:00.0: Port module event[error]: module 0, Cable error, Bus stuck"
    ),
    "kernel:nic.slot_power": (
        "mlx5_core 0000:4b:00.0: Detected insufficient power on the PCIe slot (27W)."
    ),
    "kernel:nic.peermem": (
        "nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context, skipping"
    ),
    "kernel:host.cpu_hot": (
        "CPU7: Package temperature above threshold, cpu clock throttled (total events = 3)"
    ),
    "kernel:host.memory_uncorrected": "EDAC MC3: 1 UE memory scrubbing error",
    "kernel:amd.uncorrectable": (
        "amdgpu 0000:c6:00.0: 1 uncorrectable hardware errors detected in umc block"
    ),
    # wordings that are not in the table above, each by the format of its driver
    "kernel:host.bad_page": "BUG: Bad page state in process train  pfn:71abc",
    "kernel:host.netdevice_stuck": (
        "unregister_netdevice: waiting for eth7 to become free. Usage count = 3"
    ),
    "kernel:nvidia.multicast": (
        "[Mar 04 2026 07:08:09] [ERROR] [tid 71] failed to find the GPU handle 4711 in the "
        "multicast team request setup 9."
    ),
    "kernel:host.no_pages": "train: page allocation failure: order:5, mode:0x40dc0(GFP_KERNEL)",
    "kernel:host.nmi_unknown": "Uhhuh. NMI received for unknown reason 3d on CPU 41.",
    "kernel:host.iommu": "DMAR: [DMA Write NO_PASID] Request device [4b:00.1] fault addr 0x71000",
    "kernel:pcie.no_answer": (
        "nvidia 0000:4a:00.0: Unable to change power state from D3cold to D0, device inaccessible"
    ),
    "kernel:pcie.retrained": (
        "pcieport 0000:4a:01.0: broken device, retraining non-functional downstream link at 2.5GT/s"
    ),
    "kernel:disk.controller": "mpt3sas_cm1: fault_state(0x71ab)!",
    "kernel:disk.path": "device-mapper: multipath: 253:9: Failing path 8:48.",
    "kernel:disk.offline": "sd 3:0:4:0: rejecting I/O to offline device",
    "kernel:fs.full": (
        "EXT4-fs (sdc1): Delayed block allocation failed for inode 71 at logical offset 9 with max "
        "blocks 3 with error 28"
    ),
    "kernel:nic.hot": "mlx5_core 0000:4b:00.0: High temperature on sensors with bit set 0 1",
    "kernel:nic.bad_completion": (
        "mlx5_core 0000:4b:00.0 eth7: Error cqe on cqn 0x71, ci 0x3, qn 0x9, opcode 0xd"
    ),
    "kernel:amd.bad_pages_near": "amdgpu 0000:c6:00.0: RAS records:9 exceeds 90% of threshold:10",
    "kernel:amd.throttled": (
        "amdgpu 0000:c6:00.0: amdgpu: WARN: GPU thermal throttling temperature reached, expect x"
    ),
    "kernel:intel.guc": "xe 0000:4d:00.0: [drm] *ERROR* GT1: GuC mmio request 0x71: no reply",
    "kernel:intel.hardware_fatal": (
        "xe 0000:4d:00.0: [drm] *ERROR* [Hardware Error]: Tile1 reported FATAL error 0x71"
    ),
    "kernel:intel.hardware_error": (
        "xe 0000:4d:00.0: [drm] *ERROR* [Hardware Error]: Tile1 reported NONFATAL error 0x71"
    ),
    "kernel:intel.hardware_corrected": (
        "xe 0000:4d:00.0: [drm] [Hardware Error]: Tile1 reported CORRECTABLE error 0x71"
    ),
    "kernel:gaudi.init_failed": (
        "habanalabs 0000:33:00.0: Failed to initialize hl3. Device is NOT usable !"
    ),
    "kernel:gaudi.stuck": "habanalabs hl3: Command submission 71 has timed out!",
    "kernel:gaudi.hot": "habanalabs hl3: Received high temp H/W interrupt 71 (cause 3)",
    "kernel:gaudi.page_fault": "habanalabs hl3: MMU page fault on va 0x71",
    "kernel:nvidia.driver_error": "NVRM: gpuPowerManagementEnter: GSP unload failed: 0x71",
    "kernel:nvidia.bad_register": (
        "NVRM: gpuHandleSanityCheckRegReadError_GM107: Possible bad register read: addr: 0x7140"
    ),
    "kernel:host.cpu_power": "CPU7: Package power limit notification (total events = 3)",
    "kernel:gaudi.interrupt": 'habanalabs hl3: Received H/W interrupt 71 ["TPC3_DEC"]',
}
"""One line of each rule that is seldom seen, by code."""

WORDINGS = (
    # the same event in the words of another version
    ("rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 3-.... }", "host.lockup"),
    ("csd: Detected non-responsive CSD lock (#3) on CPU#4, waiting 5000071 ns", "host.lockup"),
    ("INFO: task train:71 blocked in I/O wait for more than 241 seconds.", "host.hung_task"),
    ("Task in /slurm/uid_71/job_9/step_0 killed as a result of limit of /slurm", "host.oom"),
    ("Out of memory and no killable processes...", "host.oom"),
    ("Fixing recursive fault but reboot is needed!", "host.oops"),
    ("Memory failure: 0x71: unhandlable page.", "host.memory_page"),
    ("SError Interrupt on CPU71, code 0xbe000011 -- SError", "host.mce_uncorrected"),
    ("NMI: PCI system error (SERR) for reason b1 on CPU 0.", "host.mce_uncorrected"),
    ("AMD-Vi: Event logged [IO_PAGE_FAULT device=4b:00.0 domain=0x0009 flags=0x0]", "host.iommu"),
    ("pcieport 0000:4a:01.0: AER: subordinate device reset failed", "pcie.recovery_failed"),
    ("pcieport 0000:4a:01.0: DPC: ERR_FATAL detected", "pcie.contained"),
    ("vfio-pci 0000:4a:00.0: not ready 65535ms after bus reset; giving up", "pcie.no_answer"),
    ("md: super_written gets error=-5", "disk.io_error"),
    ("critical space allocation error, dev sdc, sector 71", "disk.io_error"),
    ("megaraid_sas 0000:4b:00.0: 71 (7000s/0x0002/FATAL) - VD 00/3 is now OFFLINE", "disk.raid"),
    ("ata9.00: exception Emask 0x0 SAct 0x71 SErr 0x0 action 0x6 frozen", "disk.scsi"),
    ("sd 3:0:4:0: [sdc] tag#9 FAILED Result: hostbyte=DID_NO_CONNECT x", "disk.offline"),
    ("BTRFS info (device sdc1): forced readonly", "fs.read_only"),
    ("XFS (sdc1): Internal error xfs_trans_cancel at line 71 of file x", "fs.error"),
    ("XFS (sdc1): writeback error on sector 71", "fs.error"),
    ("EXT4-fs warning (device sdc1): ext4_end_bio:71: I/O error 10 writing to inode 9", "fs.error"),
    ("JBD2: Error -5 detected when updating journal superblock for sdc1-8.", "fs.error"),
    ("CIFS: VFS: \\\\store-3 has not responded in 180 seconds. Reconnecting...", "fs.nfs"),
    ("NFS: state manager: lease expired failed on NFSv4 server x with error 71", "fs.nfs"),
    (
        "LustreError: 11-0: x-OST0: operation ost_write to node y@o2ib failed: rc = -107",
        "fs.cluster",
    ),
    ("ceph: [71ab 9]: mds0 caps stale", "fs.cluster"),
    ("GPFS Deadman Switch timer [0] has expired; IOs in progress: 3", "fs.cluster_gone"),
    (
        "mmfs: [E] Lost membership in cluster vault.example. Unmounting file systems.",
        "fs.cluster_gone",
    ),
    ("amdgpu: failed to add hardware queue to MES, doorbell=0x1002", "amd.hung"),
    ("bnxt_en 0000:4b:00.0 eth7: Firmware not responding, status: 0x8000", "nic.dead"),
    ("bnxt_en 0000:4b:00.0 eth7: Firmware fatal reset event, data1: 0x0, data2: 0x0", "nic.dead"),
    ("mmfs: [X] The mmfs daemon is shutting down abnormally.", "fs.cluster_gone"),
    (
        "2026-03-02_04:05:06.071+0000: [E] File System fs7 unmounted by the system with return "
        "code 212 reason code 721",
        "fs.cluster_gone",
    ),
    ("LustreError: 71:0:(osc_cache.c:9:f()) ASSERTION( x > 0 ) failed: ", "fs.cluster_gone"),
    ("LustreError: 71:0:(osc_cache.c:9:f()) LBUG", "fs.cluster_gone"),
    (
        "Mar  2 04:05:06 n7 mmfs[71]: [E] Disk lease period expired 0.030 seconds ago in cluster "
        "vault.example. Attempting to reacquire the lease.",
        "fs.cluster",
    ),
    ("mmfs: [E] Unable to contact any quorum nodes during cluster probe.", "fs.cluster"),
    (
        "mmfs: [E] Node 192.0.2.7 (n7) is being expelled because of an expired lease. Pings: 9",
        "fs.cluster",
    ),
    (
        "mmfs: [N] This node will be expelled from cluster vault.example due to expel msg from "
        "192.0.2.1 (n1)",
        "fs.cluster",
    ),
    (
        "Lustre: x-OST0001: haven't heard from client y (at 192.0.2.7@tcp) in 227 seconds. I think "
        "it's dead, and I am evicting it. exp 0, cur 1, expire 2, last 3",
        "fs.cluster",
    ),
    (
        "LustreError: 71:0:(ldlm_lockd.c:9:expired_lock_main()) ### lock callback timer expired "
        "after 99s: evicting client at 192.0.2.7@o2ib",
        "fs.cluster",
    ),
    ("LNet: 71:0:(o2iblnd_cb.c:9:f()) Timed out RDMA with 192.0.2.7@o2ib (0)", "fs.cluster"),
    (
        "beegfs: python3(71): Messaging (RPC): Communication error: Receive timed out from: x",
        "fs.cluster",
    ),
    (
        "beegfs: python3(71): 7A-1-n7: Messaging (RPC): Retrying communication with node: "
        "beegfs-storage st7 [ID: 7]",
        "fs.cluster",
    ),
    (
        "wekafsio: N[shard.pt] Truncated dirty-pages total-errors(ENOSPC(0), OTHER(3)) sync => -5",
        "fs.cluster",
    ),
    (
        "wekafsio: N[shard.pt] Truncated dirty-pages total-errors(ENOSPC(2), OTHER(0)) sync => -28",
        "fs.full",
    ),
    ("LDISKFS-fs error (device dm-7): ldiskfs_lookup: deleted inode referenced: 7", "fs.error"),
    ("mlx5_core 0000:4b:00.0: poll_health:71:(pid 0): Fatal error 3 detected", "nic.dead"),
    ("mlx5_core 0000:4b:00.0: health_care:9:(pid 7): handling bad device here", "nic.dead"),
    ("mlx5_core 0000:4b:00.0: print_health_info:7:(pid 0): synd 0x1: firmware x", "nic.dead"),
    ("mlx5_core 0000:4b:00.0: wait_func:9:(pid 7): cmd[3]: X(0x4) No done completion", "nic.dead"),
    ("bnxt_en 0000:4b:00.0 eth7: Error (timeout: 500015) msg {0x71 0x9} len:0", "nic.dead"),
    ("mlx5_core 0000:4b:00.0 eth7: TX timeout on queue: 9, SQ: 0x71, CQ: 0x3", "nic.tx_timeout"),
    ("mlx5_core 0000:4b:00.0: Port module event: module 0, Cable error", "nic.module"),
    ("bond3: (slave eth7): link status definitely down, disabling slave", "nic.down"),
    ("bond3: now running without any active interface!", "nic.down"),
    ("hns3 0000:4b:00.0 eth7: link down", "nic.down"),
    (
        "amdgpu 0000:c6:00.0: Saved bad pages(128) reaches threshold value(128).",
        "amd.bad_page_limit",
    ),
    ("amdgpu 0000:c6:00.0: amdgpu: GPU reset succeeded, trying to resume", "amd.reset_done"),
    ("amdgpu 0000:c6:00.0: ASIC reset failed with error, -19 for drm dev, x", "amd.lost"),
    ("amdgpu 0000:c6:00.0: probe with driver amdgpu failed with error -22", "amd.init_failed"),
    ("amdgpu 0000:c6:00.0: ERROR: System is going to shutdown due to GPU SW CTF!", "amd.too_hot"),
    ("amdgpu 0000:c6:00.0: amdgpu: failed to remove hardware queue from MES", "amd.hung"),
    (
        "amdgpu 0000:c6:00.0: 3 uncorrectable hardware errors and 0 deferred hardware errors "
        "detected in UMC block",
        "amd.uncorrectable",
    ),
    ("i915 0000:4d:00.0: [drm] *ERROR* Failed to reset chip", "intel.wedged"),
    ("xe 0000:4d:00.0: [drm] *ERROR* GT1: TLB invalidation timed out", "intel.guc"),
    ("xe 0000:4d:00.0: [drm] *ERROR* SIGID=104 FATAL (-EPROTO) Invalid GuC reply", "intel.guc"),
    ("xe 0000:4d:00.0: [drm] *ERROR* SIGID=106 (-ETIMEDOUT) Engine 'bcs3' hung", "intel.hung"),
    ("xe 0000:4d:00.0: Runtime Survivability mode enabled", "intel.init_failed"),
    ("xe 0000:4d:00.0: [drm] *ERROR* GT1: load failed: status: Reset = 0", "intel.init_failed"),
    ("LustreError: 166-1: MGCx@o2ib: Connection to MGS (at y@o2ib) was lost; x", "fs.cluster"),
    ("habanalabs hl3: Failed to communicate with Device CPU (CPU-CP timeout)", "gaudi.init_failed"),
    ("NVRM: GPU0 RmInitAdapter: Cannot initialize GSP firmware RM", "nvidia.gsp_boot"),
    ("NVRM: installed in this system is not supported by the", "nvidia.api_mismatch"),
    ("NVRM: rm_init_adapter(3) failed", "nvidia.init_failed"),
    ("NVRM: GPU 0000:4a:00.0: Failed to copy vbios to system memory.", "nvidia.init_failed"),
    ("NVRM: None of the NVIDIA graphics adapters were initialized!", "nvidia.init_failed"),
    ("NVRM: The NVIDIA probe routine was not called for 3 device(s).", "nvidia.init_failed"),
    ("NVRM: GPU 0000:4a:00.0 is already bound to vfio-pci.", "nvidia.init_failed"),
    ("NVRM: _issueRpcAndWait: rpcRecvPoll timedout for fn 76!", "nvidia.gsp_heartbeat"),
    ("NVRM: x: rpcSendMessage failed with status 0x00000065 for fn 9!", "nvidia.gsp_heartbeat"),
    ("NVRM: Timeout after 71s of waiting for RPC response from GPU3 GSP!", "nvidia.gsp_heartbeat"),
    ("amdgpu 0000:c6:00.0: SMU is in hanged state, failed to send smu message!", "amd.smu"),
    ("amdgpu 0000:c6:00.0: amdgpu: GPU recovery disabled.", "amd.hung"),
    ("[drm:mes_v11_0_x.constprop.0 [amdgpu]] *ERROR* MES failed to response msg=3", "amd.hung"),
    ("amdgpu 0000:c6:00.0: {3} socket: 0, die: 1, 1 new poison consumption detected", "amd.poison"),
    ("amdgpu 0000:c6:00.0: amdgpu: PCI error: detected callback, state(2)!!", "pcie.fatal"),
    ("amdgpu 0000:c6:00.0: amdgpu: PCI error: detected callback, state(3)!!", "amd.lost"),
    ("[drm] VRAM is lost due to GPU reset!", "amd.reset_done"),
    ("i915 0000:4d:00.0: [drm] Resetting chip for hang on rcs0", "intel.engine_reset"),
    ("i915 0000:4d:00.0: Resetting bcs0 after gpu hang", "intel.engine_reset"),
    ("xe 0000:4d:00.0: [drm] Tile0: GT1: reset started", "intel.engine_reset"),
    ("xe 0000:4d:00.0: [drm] *ERROR* GT1: reset failed (-ETIMEDOUT)", "intel.hung"),
    ("xe 0000:4d:00.0: [drm] *ERROR* GT1: GuC engine reset request failed on 0:0", "intel.hung"),
    (
        "i915 0000:4d:00.0: [drm] Resetting chip for GuC failed to reset engine",
        "intel.engine_reset",
    ),
    ("[i915] *ERROR* Failed to reset GuC, ret = -110", "intel.guc"),
    ("amdgpu 0000:c6:00.0: amdgpu: IP block:gfx_v11_0 is hung!", "amd.hung"),
    ("amdgpu 0000:c6:00.0: amdgpu: Failed to send message 0x71, response 0x0", "amd.smu"),
    ("amdgpu: [powerplay] [x] Failed to disable all smu features!", "amd.smu"),
    ("mlx5_core 0000:4b:00.0: mlx5_load_one failed with error code -22", "nic.dead"),
    ("mlx5_core 0000:4b:00.0: probe_one:71:(pid 9): x failed with error code -110", "nic.dead"),
    ("mlx5_core: probe of 0000:4b:00.0 failed with error -22", "nic.dead"),
    ("xe 0000:4d:00.0: [drm] GT1: Kernel-submitted job timed out", "intel.hung"),
    ("i915 0000:4d:00.0: [drm] *ERROR* GT0: GUC: Engine reset failed on 0:0", "intel.hung"),
    ("i915 0000:4d:00.0: [drm] *ERROR* rcs0 reset request timed out", "intel.hung"),
    ('habanalabs hl3: Received H/W interrupt 71 ["HBM2_DERR"]', "gaudi.uncorrectable"),
    ("accel accel3: X: ECC error detected. address: 0x0. critical 1.", "gaudi.uncorrectable"),
    ("accel accel3: X: ECC error detected. address: 0x0. critical 0.", "gaudi.correctable"),
    ("accel accel3: HBM3_MC1_SEI_SEVERE: err cause: read data parity", "gaudi.interrupt"),
    ("dpc 0000:4a:01.0:pcie08: DPC containment event, status:0x1f01", "pcie.contained"),
    ("{3}[Hardware Error]:  Error 0, type: fatal", "host.mce_uncorrected"),
    ("acpi: Critical temperature reached (99 C), shutting down", "host.too_hot"),
    ("nvme 0000:4a:00.0: I/O 71 QID 0 timeout, reset controller", "disk.nvme_timeout"),
    ("nvme 0000:4a:00.0: Failed status: 0x3, reset controller", "disk.nvme_timeout"),
    ("block nvme3n1: no usable path - requeuing I/O", "disk.path"),
    ("ata9: COMRESET failed (errno=-16)", "disk.scsi"),
    ("sd 3:0:4:0: [sdc] tag#9 FAILED Result: hostbyte=DID_SOFT_ERROR x", "disk.scsi"),
    ("EXT4-fs (sdc1): error count since last fsck: 71", "fs.error"),
    ("EXT4-fs (sdc1): previous I/O error to superblock detected", "fs.error"),
    ("EXT4-fs (sdc1): This should not happen!! Data will be lost", "fs.error"),
    ("JBD2: I/O error when updating journal superblock for sdc1-8.", "fs.error"),
    ("NFSv4: state recovery failed for open file x, error = -116", "fs.nfs"),
    ("Lustre: 7:0:(client.c:9:x()) @@@ Request sent has timed out for slow reply", "fs.cluster"),
    ("mlx5_core 0000:4b:00.0: Health issue observed, High temperature, severity(3)", "nic.dead"),
    ("mlx5_core 0000:4b:00.0: synd 0x8: unrecoverable hardware error", "nic.dead"),
    (
        "mlx5_core 0000:4b:00.0: x: Firmware over 7000 MS in initializing state, aborting",
        "nic.dead",
    ),
    ("bond3: (slave eth7): link status down for active interface, disabling it", "nic.down"),
    ("<info>  [1700000071.9] device (ib7): carrier: link disconnected", "nic.down"),
    ("traps: PANIC: double fault, error_code: 0x0", "host.oops"),
    ("EDAC amd64 MC3: CE ERROR_ADDRESS= 0x71abcdef0", "host.memory_corrected"),
    ("corrected DIMM memory error count exceeded threshold: 71 in 24h", "host.memory_corrected"),
    ("DMAR:[DMA Write] Request device [4b:00.1] fault addr 71000", "host.iommu"),
    ("x 0000:4b:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x7 address=0x1]", "host.iommu"),
    ("arm-smmu-v3 arm-smmu-v3.7.auto: event 0x10 received:", "host.iommu"),
    ("pcieport 0000:4a:01.0: pciehp: Slot(9): Cannot train link: status 0x1", "pcie.gone"),
    ("pci 0000:4a:00.0: unknown header type 7f, ignoring device", "pcie.no_answer"),
    ("md/raid:md3: read error not correctable (sector 71 on sdc1).", "disk.raid"),
    ("Device: /dev/sdc [SAT], 7 Currently unreadable (pending) sectors", "disk.scsi"),
    ("XFS (sdc1): xfs_log_force: error -5 returned.", "fs.error"),
    ("CIFS VFS: Server store-3 has not responded in 120 seconds. Reconnecting...", "fs.nfs"),
    ("libceph: mon3 192.0.2.7:6789 session lost, hunting for new mon", "fs.cluster"),
    ("e1000e 0000:4b:00.0 eth7: Detected Hardware Unit Hang:", "nic.tx_timeout"),
    ("ib7: transmit timeout: latency 7100 msecs", "nic.tx_timeout"),
    ("amdgpu: qcm fence wait loop timeout expired", "amd.hung"),
    ("METAX.B20300.PCIE.CRIT x", "metax.error"),
    ("[ascend] [devdrv] [x 71] Failed to send a message to the device", "ascend.driver_error"),
    ("NVRM: osInitNvMapping: *** Cannot attach gpu", "nvidia.init_failed"),
    ("XFS (sdc1): Metadata CRC error detected at xfs_agf_read_verify+0x71/0x90", "fs.error"),
)
"""Line and rule."""

MILD = (
    ("[drm] UVD VCPU state may lost due to RAS ERREVENT_ATHUB_INTERRUPT", "memory"),
    ("---[ end Kernel panic - not syncing: Fatal exception ]---", "host.panic"),
    ("train.slice: A process of this unit has been killed by the OOM killer.", "host.oom"),
    ("train.service: Failed with result 'oom-kill'.", "host.oom"),
    ("{3}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 7", "cpu_error"),
    ("[Hardware Error]: Unified Memory Controller Ext. Error Code: 0, DRAM ECC error.", "memory"),
    ("nvme3: Identify(0x6), Invalid Field in Command (sct 0x0 / sc 0x2) DNR", "disk_error"),
    (
        "pci 0000:4a:00.0: 252.048 Gb/s available PCIe bandwidth, limited by 32.0 GT/s PCIe x8 link"
        " at 0000:49:01.0 (capable of 504.112 Gb/s with 32.0 GT/s PCIe x16 link)",
        "pcie.degraded",
    ),
)
"""Lines that say again, or say little: line and part of the kind. Shown, and no fault by itself."""

DETAILS = (
    "Device: /dev/sdc [SAT], SMART Usage Attribute: 194 Temperature_Celsius changed from 71 to 72",
    "DMAR: DRHD: handling fault status reg 2",
    "md/raid1:md3: active with 2 out of 2 mirrors",
    "NVRM: kgspHealthCheck_TU102: ****************** GSP-CrashCat Report ******************",
    "amdgpu 0000:c6:00.0: {3} socket: 0, die: 1, 7 poison consumption detected in total in gfx",
    "mlx5_core 0000:4b:00.0: ext_synd 0x8a3f",
    "pci 0000:4a:00.0: 32.000 Gb/s available PCIe bandwidth, limited by 2.5 GT/s PCIe x16 link at "
    "0000:49:01.0 (capable of 504.112 Gb/s with 32.0 GT/s PCIe x16 link)",
    "{3}[Hardware Error]:  Error 0, type: corrected",
    "amdgpu 0000:c6:00.0: amdgpu: Poison is created, no user action is needed.",
    "amdgpu 0000:c6:00.0: amdgpu: Dumping IP State Completed",
    "EDAC skx MC3: HANDLING MCE MEMORY ERROR",
    "{3}[Hardware Error]:   section_type: PCIe error",
    "pcieport 0000:4a:01.0: AER: Root Port link has been reset (0)",
    "vfio-pci 0000:4a:00.0: not ready 1023ms after FLR; waiting",
    "INFO: task train:71 is blocked on a mutex likely owned by task nvidia-smi:9.",
    "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580",
    "nvme nvme3: Does your device have a faulty power saving mode enabled?",
    "ata9: hard resetting link",
    "sd 3:0:4:0: [sdc] tag#9 FAILED Result: hostbyte=DID_OK driverbyte=DRIVER_SENSE",
    "libceph: osd7 (1)192.0.2.7:6801 socket closed (con state OPEN)",
    "mlx5_core 0000:4b:00.0: print_health_info:71:(pid 0): synd 0x0: ok",
    "mlx5_core 0000:4b:00.0: E-Switch: Disable: mode(LEGACY), nvfs(0), active vports(1)",
    "DMAR: DRHD base: 0x000000717fc000 flags: 0x1",
    "AMD-Vi: Interrupt remapping enabled",
    "megaraid_sas 0000:4b:00.0: FW now in Ready state",
    "bond3: (slave eth7): link status definitely up, 200000 Mbps full duplex",
    "xe 0000:4d:00.0: [drm] Using GuC firmware from xe/bmg_guc_70.bin version 70.29.2",
    "habanalabs hl3: Loading firmware to device, may take some time...",
)
"""Rows of a fault that another line states, and words that only look like one."""
